"""Keys files for tests, and servers that ask for keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.keys.caller import Scope
from service.keys.credential import Token
from service.keys.document import KeyEntry, KeyLimits, SecretEntry, changing, utc_now, write_document
from service.settings import AccessSettings
from service.store.base import StateStore
from tests.support.clients.open_inference import Live, live_server


def add_key(path: Path, name: str, scopes: Iterable[Scope] = (Scope.infer,), **limits: float) -> str:
    """Put a key into a keys file in place of the one of its name; its text."""
    token = Token.new()
    entry = KeyEntry(
        name=name,
        scopes=tuple(scopes),
        limits=KeyLimits.model_validate(limits),
        secrets=(SecretEntry.of(token, utc_now()),),
    )
    with changing(path) as document:
        write_document(path, document.replaced(entry))
    return token.text


def revoke(path: Path, name: str) -> None:
    """Take the secrets of a key away."""
    with changing(path) as document:
        entry = document.find(name)
        assert entry is not None
        write_document(path, document.replaced(entry.model_copy(update={"secrets": ()})))


@contextmanager
def keyed_server(folder: Path, keys: Path, store: StateStore | None = None, **settings: Any) -> Iterator[Live]:
    """``live_server``, which asks for the keys of a file."""
    (folder / "models").mkdir(exist_ok=True)
    with live_server(folder / "models", store, access=AccessSettings(keys=keys), **settings) as live:
        yield live


def bearer(key: str) -> dict[str, str]:
    """The header that presents a key."""
    return {"Authorization": f"Bearer {key}"}
