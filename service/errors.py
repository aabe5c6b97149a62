"""The tree of domain errors. None of them knows HTTP; ``service/api/problems.py`` maps them to it, once.

HetsynError
├── ArtifactError          a model folder is not what its manifest says
├── RuntimeUnavailable     ONNX Runtime is missing, doubled, or lacks the device
├── InputError             a request cannot be used; nothing was applied
│   ├── TooLarge           its body or its chunk is longer than the server takes
│   └── TooSlow            its body did not come in time
├── UnsupportedInput       a content type or an input kind that the server or the model does not take
├── OriginRefused          a page of another origin opens a stream
├── ModelControlOff        clients may not load and unload models
├── KeyRefused             no key, or one that the server does not know, or that has expired
├── KeyLacksScope          the key may not do this
├── KeysUnusable           the keys file cannot be read or written
├── NotFound               no such model, version or session
├── SessionError           the session cannot take this chunk; it is unchanged
│   ├── OutOfOrder         another chunk number is expected
│   ├── ConflictingChunk   the number was used, for other content
│   ├── SessionEnded       a chunk after the end
│   ├── ModelMismatch      the session runs on another model
│   ├── StateBroken        its state or its counts are out of range, so no chunk can go on from them
│   ├── SessionExists      a session of this id exists; nothing was imported
│   └── SessionTaken       another connection streams the session now
├── SessionGone            the session has expired, or the store has lost it
├── StreamIdle             the client of a stream has been silent for too long
├── StateError             a session record cannot be used; its stored record, if any, is unchanged
│   ├── StateForeign       not a session record
│   ├── StateFormat        of an older or a newer format
│   ├── StateTruncated     cut off
│   ├── StateCorrupt       its checksum does not match its content
│   ├── StateMismatch      intact, but not a state that the model's manifest describes
│   ├── ModelChanged       its model had other content under the same version
│   └── ModelAbsent        the server lacks its model's version; another server may have it
├── TokenError             a carried session's token is refused; nothing was applied
│   ├── TokenForeign       not a token
│   ├── TokenFormat        of an older or a newer format
│   ├── TokenTruncated     cut off
│   ├── TokenKeyUnknown    sealed with a key that the server lacks
│   ├── TokenForged        changed since it was sealed
│   └── TokenExpired       too old, or unused for too long
├── CarryUnavailable       the server has no usable keys for carried sessions
├── StoreError             the session store cannot be used
│   ├── StoreUnavailable   it is down or slow; try again later
│   │   └── StoreFull      it has no room for this change
│   └── StoreUnusable      its address, its file or its configuration is wrong, or its file has gone
└── Overloaded             the server has no room; try again later
    ├── ShuttingDown       send the request to another server
    └── KeyLimitReached    the key has as much as it may; try again later
"""

from __future__ import annotations

from collections.abc import Sequence

from hetsyn_client.errors import HetsynError as HetsynError
from hetsyn_client.errors import InputError as InputError
from hetsyn_client.errors import NotFound as NotFound

RETRY_S = 1.0
"""When a client may try again, in seconds, if the server has no better estimate."""


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


class OriginRefused(HetsynError):
    pass


class ModelControlOff(HetsynError):
    pass


class KeyRefused(HetsynError):
    pass


class KeyLacksScope(HetsynError):
    pass


class KeysUnusable(HetsynError):
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


class StateBroken(SessionError):
    pass


class SessionExists(SessionError):
    pass


class SessionTaken(SessionError):
    pass


class StreamIdle(HetsynError):
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
    retry_after_s = RETRY_S


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
    retry_after_s = RETRY_S


class StoreUnavailable(StoreError):
    pass


class StoreFull(StoreUnavailable):
    pass


class StoreUnusable(StoreError):
    pass


class Overloaded(HetsynError):
    def __init__(self, message: str, retry_after_s: float = RETRY_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ShuttingDown(Overloaded):
    pass


class KeyLimitReached(Overloaded):
    pass


def listing(names: Sequence[str]) -> str:
    """Names as a sentence lists them: ``'a', 'b'``, or ``none``."""
    return ", ".join(repr(name) for name in names) or "none"
