"""Who sends a request, and what that key may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.errors import KeyLacksScope
from service.keys.ids import inner_id

KEY_CALLER = "hetsyn.key-caller"
"""Under which an ASGI scope has its ``Caller``."""


class Scope(StrEnum):
    """What a key may do.

    Attributes:
        infer: send chunks and streams; describe, export, import and delete the key's sessions; see the models.
        metrics: read the numbers of the whole server.
    """

    infer = "infer"
    metrics = "metrics"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        key: name of the key; empty where the server has no keys.
        secret: id of the secret that was presented; it is public.
    """

    key: str = ""
    scopes: frozenset[Scope] = frozenset(Scope)
    secret: str = ""

    def session(self, session_id: str) -> str:
        """Return the inner id of one of this caller's sessions."""
        return inner_id(self.key, session_id)

    def client(self, address: str) -> str:
        """Name the client that the server's limits count: the key, or without keys the address."""
        return self.key or address

    def check(self, scope: Scope) -> None:
        """Raise ``KeyLacksScope`` if the caller lacks this scope."""
        if scope not in self.scopes:
            raise KeyLacksScope(f"key {self.key!r} lacks the scope {scope.value!r}: ask for a key that has it")


ANYBODY = Caller()


def caller_of(scope: Mapping[str, Any]) -> Caller:
    """Return the caller that the guard put into an ASGI scope; ``ANYBODY`` on a server without keys."""
    caller: Caller = scope.get(KEY_CALLER, ANYBODY)
    return caller
