"""The tree of domain errors. None of them knows HTTP; ``service/api/problems.py`` maps them, once.

HetsynError
├── ArtifactError          a model folder is not what its manifest says
├── RuntimeUnavailable     ONNX Runtime is missing, doubled, or lacks the device
├── InputError             what a client sent cannot be used; nothing was applied
│   └── TooLarge           it is longer than the server takes
├── UnsupportedInput       a content type or an input kind that the server or the model does not take
├── NotFound               no such model, version or session
├── SessionError           the session cannot take this chunk; it is as it was
│   ├── OutOfOrder         another chunk number is expected
│   ├── ConflictingChunk   the number was used, for other content
│   ├── SessionEnded       a chunk after the end
│   └── ModelMismatch      the session runs on another model
├── SessionGone            it was dropped after lying idle
└── Overloaded             more than the server can hold; try again later
"""

from __future__ import annotations


class HetsynError(Exception):
    """Base of all; the message is a sentence that says what to do."""


class ArtifactError(HetsynError):
    pass


class RuntimeUnavailable(HetsynError):
    pass


class InputError(HetsynError):
    pass


class TooLarge(InputError):
    pass


class UnsupportedInput(HetsynError):
    pass


class NotFound(HetsynError):
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


class SessionGone(HetsynError):
    pass


class Overloaded(HetsynError):
    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
