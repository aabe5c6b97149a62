"""The reply to a chunk as tests read it: its members are attributes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pydantic_core import from_json, to_json

from hetsyn_client import results


class Reply(SimpleNamespace):
    """A reply. A member that it lacks is None."""

    def __getattr__(self, name: str) -> Any:
        if name not in results.Reply.__annotations__:
            raise AttributeError(name)
        return None

    @classmethod
    def from_json(cls, content: bytes) -> Reply:
        """Read a reply as a client does."""
        return cls(**from_json(content))

    def to_json(self) -> bytes:
        """Write it as a session keeps it."""
        return to_json(vars(self))
