"""What the protocols of ``/stream`` and ``/streams`` have in common, for the shell that drives either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from service.live.actions import Close, Send
from service.live.refusal import Refusal

W_co = TypeVar("W_co", covariant=True)


class SendBinary(NamedTuple):
    """Send a binary frame."""

    content: bytes


class Machine(Protocol[W_co]):
    """The protocol of a connection: see ``live.protocol`` and ``live.many``."""

    @property
    def is_busy(self) -> bool: ...

    @property
    def reads(self) -> bool: ...

    @property
    def held_bytes(self) -> int: ...

    def begin(self) -> Sequence[Send | SendBinary | Close | W_co]: ...

    def text(self, content: str) -> Sequence[Send | SendBinary | Close | W_co]: ...

    def refuse(self, refusal: Refusal) -> Sequence[Send | SendBinary | Close | W_co]: ...

    def drain(self) -> Sequence[Send | SendBinary | Close | W_co]: ...

    def leave(self) -> None: ...
