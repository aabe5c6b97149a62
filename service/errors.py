"""The domain errors, each with its problem for clients (``service/problem.py``)."""

from __future__ import annotations

from collections.abc import Sequence

from hetsyn_client.errors import HetsynError as HetsynError
from hetsyn_client.errors import InputError as InputError
from hetsyn_client.errors import NotFound as NotFound

RETRY_S = 1.0
"""When a client may try again, in seconds, if the server has no better estimate."""


class ArtifactError(HetsynError):
    status, code, title = 500, "model-damaged", "The model cannot be run"
    grpc = "INTERNAL"
    exit_code = 2  # the command was given the model


class RuntimeUnavailable(HetsynError):
    status, code, title = 503, "runtime-unavailable", "The server cannot run models"
    grpc = "INTERNAL"


class TooLarge(InputError):
    status, code, title = 413, "too-large", "The input is too large"


class TooSlow(InputError):
    status, code, title = 408, "too-slow", "The input came too slowly"
    grpc = "DEADLINE_EXCEEDED"


def forget_frames(error: Exception) -> None:
    """Drop the frames of a refusal: they may hold the chunk until Python's next garbage collection."""
    if isinstance(error, HetsynError) and not isinstance(error, ArtifactError | RuntimeUnavailable):  # which are logged
        error.__traceback__ = error.__cause__ = error.__context__ = None


class UnsupportedInput(HetsynError):
    status, code, title = 415, "unsupported-input", "This kind of input is not accepted"
    grpc = "INVALID_ARGUMENT"


class OriginRefused(HetsynError):
    status, code, title = 403, "foreign-origin", "A page of another origin"


class ModelControlOff(HetsynError):
    status, code, title = 403, "model-control-off", "Clients may not load models"
    grpc = "PERMISSION_DENIED"


class BadFrame(HetsynError):
    status, code, title = 400, "bad-frame", "The frame cannot be read"

    def __init__(self, message: str, close_code: int) -> None:
        super().__init__(message)
        self.close_code = close_code


class CannotListen(HetsynError):
    """A port or a certificate cannot be used. No client hears of it."""

    code = "cannot-listen"


class KeyRefused(HetsynError):
    status, code, title = 401, "key-refused", "A key is asked for"
    grpc = "UNAUTHENTICATED"


class KeyLacksScope(HetsynError):
    status, code, title = 403, "key-scope", "The key may not do this"
    grpc = "PERMISSION_DENIED"


class KeysUnusable(HetsynError):
    status, code, title = 500, "keys-unusable", "The keys cannot be used"


class SessionError(HetsynError):
    grpc = "FAILED_PRECONDITION"


class OutOfOrder(SessionError):
    status, code, title = 409, "out-of-order", "Another chunk is expected"

    def __init__(self, message: str, expected_seq: int) -> None:
        super().__init__(message)
        self.expected_seq = expected_seq


class ConflictingChunk(SessionError):
    status, code, title = 409, "conflicting-chunk", "The chunk number was used for other content"

    def __init__(self, message: str, expected_seq: int) -> None:
        super().__init__(message)
        self.expected_seq = expected_seq


class SessionEnded(SessionError):
    status, code, title = 409, "session-ended", "The session has ended"


class ModelMismatch(SessionError):
    status, code, title = 409, "model-mismatch", "The session runs on another model"


class StateBroken(SessionError):
    status, code, title = 409, "state-broken", "The session's state is broken"


class SessionExists(SessionError):
    status, code, title = 409, "session-exists", "A session of this id exists"


class SessionTaken(SessionError):
    status, code, title = 409, "session-taken", "Another connection streams the session"


class StreamIdle(HetsynError):
    status, code, title = 408, "idle", "The client was silent for too long"


class StateError(HetsynError):
    grpc = "FAILED_PRECONDITION"


class StateFormat(StateError):
    status, code, title = 409, "state-format", "The session record has another format"


class StateCorrupt(StateError):
    status, code, title = 409, "state-corrupt", "The session record is damaged"


class StateMismatch(StateError):
    status, code, title = 409, "state-mismatch", "The session record does not fit its model"


class ModelChanged(StateError):
    status, code, title = 409, "model-changed", "The session's model has other files here"


class ModelAbsent(StateError):
    status, code, title = 503, "model-absent", "The server does not have the session's model"
    grpc = "UNAVAILABLE"
    retry_after_s = RETRY_S


class TokenError(HetsynError):
    pass


class TokenForeign(TokenError):
    status, code, title = 422, "token-foreign", "Not a token"


class TokenFormat(TokenError):
    status, code, title = 409, "token-format", "The token has another format"


class TokenKeyUnknown(TokenError):
    status, code, title = 409, "token-key", "The server does not have the token's key"


class TokenForged(TokenError):
    status, code, title = 422, "token-forged", "The token is not as it was sealed for this client"


class TokenExpired(TokenError):
    status, code, title = 410, "token-expired", "The token has expired"


class CarryUnavailable(HetsynError):
    status, code, title = 501, "carry-unavailable", "Carried sessions are not available"


class StoreError(HetsynError):
    grpc = "UNAVAILABLE"  # the chunk may have been applied, and only its number tells
    retry_after_s: float = RETRY_S


class StoreUnavailable(StoreError):
    status, code, title = 503, "store-unavailable", "The session store cannot be reached"


class StoreFull(StoreUnavailable):
    status, code, title = 503, "store-full", "The session store is full"


class StoreUnusable(StoreError):
    status, code, title = 503, "store-unusable", "The session store cannot be used"


class Overloaded(HetsynError):
    status, code, title = 503, "overloaded", "The server is full"
    grpc = "UNAVAILABLE"
    retry_after_s: float

    def __init__(self, message: str, retry_after_s: float = RETRY_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ShuttingDown(Overloaded):
    status, code, title = 503, "shutting-down", "The server is shutting down"
    close_code = 1012  # RFC 6455: service restart


class KeyLimitReached(Overloaded):
    status, code, title = 429, "key-limit", "The key has as much as it may"
    grpc = "RESOURCE_EXHAUSTED"


KINDS = tuple(
    kind for kind in dict(globals()).values()
    if isinstance(kind, type) and issubclass(kind, HetsynError) and kind is not HetsynError and "status" in vars(kind)
)  # fmt: skip
"""Every kind of problem that a client may hear of."""


def listing(names: Sequence[str]) -> str:
    """List names for a sentence: ``'a', 'b'``, or ``none``."""
    return ", ".join(repr(name) for name in names) or "none"
