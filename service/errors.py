"""The tree of domain errors. None of them knows HTTP; ``service/api/problems.py`` maps them, once.

HetsynError
├── ArtifactError          a model folder is not what its manifest says
├── RuntimeUnavailable     ONNX Runtime is missing, doubled, or lacks the device
├── InputError             what a client sent cannot be used; nothing was applied
│   ├── TooLarge           it is longer than the server takes
│   └── TooSlow            it did not come in time
├── UnsupportedInput       a content type or an input kind that the server or the model does not take
├── NotFound               no such model, version or session
├── SessionError           the session cannot take this chunk; it is as it was
│   ├── OutOfOrder         another chunk number is expected
│   ├── ConflictingChunk   the number was used, for other content
│   ├── SessionEnded       a chunk after the end
│   ├── ModelMismatch      the session runs on another model
│   └── SessionExists      there is a session of this id; nothing was imported
├── SessionGone            it was dropped after lying idle or reaching its age, or the store lost it
├── StateError             a packed session cannot be used; whatever held it holds it still
│   ├── StateForeign       no packed session at all
│   ├── StateFormat        of an older or a newer format
│   ├── StateTruncated     cut off
│   ├── StateCorrupt       its checksum does not match its content
│   ├── StateMismatch      intact, but not a state that the model's manifest describes
│   ├── ModelChanged       made by another content of the model
│   └── ModelAbsent        made by a version that is not here; another server may have it
├── TokenError             a carried session's token is refused; nothing was applied
│   ├── TokenForeign       no token at all
│   ├── TokenFormat        of an older or a newer format
│   ├── TokenTruncated     cut off
│   ├── TokenKeyUnknown    sealed with a key that is not here
│   ├── TokenForged        not as it was sealed
│   └── TokenExpired       too old, or not used for too long
├── CarryUnavailable       the server has no keys for carried sessions, or they are none
├── StoreError             where the sessions are kept
│   ├── StoreUnavailable   it is down, slow or full; try again later
│   └── StoreUnusable      its address or its file cannot be a store
└── Overloaded             more than the server can hold; try again later
    └── ShuttingDown       the server is about to end; others take the chunk
"""

from __future__ import annotations

from collections.abc import Sequence

from hetsyn_client.errors import HetsynError as HetsynError
from hetsyn_client.errors import InputError as InputError
from hetsyn_client.errors import NotFound as NotFound


class ArtifactError(HetsynError):
    pass


class RuntimeUnavailable(HetsynError):
    pass


class TooLarge(InputError):
    pass


class TooSlow(InputError):
    pass


class UnsupportedInput(HetsynError):
    pass


class SessionError(HetsynError):
    pass


class OutOfOrder(SessionError):
    def __init__(self, message: str, expected_seq: int) -> None:
        super().__init__(message)
        self.expected_seq = expected_seq


class ConflictingChunk(SessionError):
    def __init__(self, message: str, expected_seq: int) -> None:
        super().__init__(message)
        self.expected_seq = expected_seq


class SessionEnded(SessionError):
    pass


class ModelMismatch(SessionError):
    pass


class SessionExists(SessionError):
    pass


class SessionGone(HetsynError):
    pass


class StateError(HetsynError):
    pass


class StateForeign(StateError):
    pass


class StateFormat(StateError):
    pass


class StateTruncated(StateError):
    pass


class StateCorrupt(StateError):
    pass


class StateMismatch(StateError):
    pass


class ModelChanged(StateError):
    pass


class ModelAbsent(StateError):
    retry_after_s = 1.0


class TokenError(HetsynError):
    pass


class TokenForeign(TokenError):
    pass


class TokenFormat(TokenError):
    pass


class TokenTruncated(TokenError):
    pass


class TokenKeyUnknown(TokenError):
    pass


class TokenForged(TokenError):
    pass


class TokenExpired(TokenError):
    pass


class CarryUnavailable(HetsynError):
    pass


class StoreError(HetsynError):
    pass


class StoreUnavailable(StoreError):
    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreUnusable(StoreError):
    pass


class Overloaded(HetsynError):
    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ShuttingDown(Overloaded):
    pass


def listing(names: Sequence[str]) -> str:
    """Names for a sentence."""
    return ", ".join(repr(name) for name in names) or "none"
