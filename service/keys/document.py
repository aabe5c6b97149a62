"""The keys file. It has hashes in place of secrets.

    {"format": 1, "keys": [{"name": "alice", "scopes": ["infer"], "limits": {"max_sessions": 100},
     "secrets": [{"id": "...", "salt": "...", "hash": "...", "created_at": "2026-11-28T10:00:00Z"}]}]}

A key that was revoked stays in the file without secrets: its name owns sessions, so nobody else may get it.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import KeysUnusable
from service.keys.caller import Scope
from service.keys.credential import HASH_BYTES, ID_BYTES, SALT_BYTES, Token, hashed

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
MOST_BYTES = 64 * 1024 * 1024
REMOVED_LIMITS = {"max_session_bytes": "max_sessions", "max_streams": "max_sessions", "bytes_per_s": "requests_per_s"}
"""Limits of earlier files, and the limit to take in place of each."""

log = logging.getLogger("hetsyn.keys")

_Name = Annotated[str, Field(pattern=NAME)]
_Whole = Annotated[int, Field(gt=0, le=2**53)]
_Rate = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]


def _hex(length: int) -> str:
    return rf"^[0-9a-f]{{{2 * length}}}$"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeyLimits(_Entry):
    """The limits of a key; None takes the server's limit for one client.

    Attributes:
        max_sessions: open sessions.
        requests_per_s: requests, and chunks on streams; a second's worth may come at once.
    """

    max_sessions: _Whole | None = None
    requests_per_s: _Rate | None = None


class SecretEntry(_Entry):
    """A secret of a key.

    Attributes:
        id: public, part of the token.
        hash: ``credential.hashed``.
        expires_at: time from which it is refused; None: never.
    """

    id: Annotated[str, Field(pattern=_hex(ID_BYTES))]
    salt: Annotated[str, Field(pattern=_hex(SALT_BYTES))]
    hash: Annotated[str, Field(pattern=_hex(HASH_BYTES))]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None

    @classmethod
    def of(cls, token: Token, now: datetime) -> SecretEntry:
        """Make the entry of a new token."""
        salt = os.urandom(SALT_BYTES)
        return cls(id=token.id, salt=salt.hex(), hash=hashed(token.secret, salt).hex(), created_at=now)


class KeyEntry(_Entry):
    """A key.

    Attributes:
        name: of the key; its sessions belong to it.
        secrets: each of them opens the key; empty if it was revoked.
        expires_at: time from which all secrets are refused; None: never.
    """

    name: _Name
    scopes: tuple[Scope, ...]
    limits: KeyLimits = KeyLimits()
    secrets: tuple[SecretEntry, ...] = ()
    expires_at: AwareDatetime | None = None

    @model_validator(mode="before")
    @classmethod
    def _renew(cls, entry: Any) -> Any:
        """Read an entry of an earlier version: ``state`` is part of ``infer``, and ``admin`` opens nothing."""
        if not isinstance(entry, dict):
            return entry
        entry = {name: value for name, value in entry.items() if name != "tenant"}
        if isinstance(scopes := entry.get("scopes"), list | tuple):
            new = ["infer" if scope == "state" else scope for scope in scopes if scope != "admin"]
            entry["scopes"] = [scope for at, scope in enumerate(new) if scope not in new[:at]]
        if isinstance(limits := entry.get("limits"), dict):
            entry["limits"] = {name: value for name, value in limits.items() if name not in REMOVED_LIMITS}
            for name in REMOVED_LIMITS.keys() & limits.keys():
                log.warning("key %r: %s limits nothing any more: set %s", entry.get("name"), name, REMOVED_LIMITS[name])
        return entry


class KeysDocument(_Entry):
    """A keys file."""

    format: Literal[1] = 1
    keys: tuple[KeyEntry, ...] = ()

    @model_validator(mode="after")
    def _check_unique(self) -> KeysDocument:
        for what, values in (
            ("name", [key.name for key in self.keys]),
            ("secret id", [secret.id for key in self.keys for secret in key.secrets]),
        ):
            for value, count in Counter(values).most_common(1):
                if count > 1:
                    raise ValueError(f"the {what} {value} occurs twice")
        return self

    def find(self, name: str) -> KeyEntry | None:
        return next((key for key in self.keys if key.name == name), None)

    def replaced(self, entry: KeyEntry) -> KeysDocument:
        """Return a copy in which the entry replaces the one of its name, or is appended."""
        keys = [entry if key.name == entry.name else key for key in self.keys]
        return KeysDocument(keys=tuple(keys if self.find(entry.name) else [*keys, entry]))

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json", exclude_none=True), indent=2) + "\n"


def parse_document(content: bytes, source: str) -> KeysDocument:
    """Parse the content of a keys file; messages name it as ``source``.

    Raises:
        KeysUnusable: it is not a keys file. The message repeats nothing of its content.
    """
    try:
        return KeysDocument.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise KeysUnusable(f"{source}: no keys file ({where}: {first['msg']}): write it with hetsyn keys") from None


def read_document(path: Path) -> KeysDocument:
    """Read a keys file.

    Raises:
        KeysUnusable: it cannot be read, is not a keys file, or users other than its owner may change it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if sys.platform != "win32" and stat.S_IMODE(status.st_mode) & 0o022:
                raise KeysUnusable(f"{path}: others may change the keys: take that right away with chmod go-w {path}")
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise KeysUnusable(
            f"{path}: the keys cannot be read ({error.strerror}): make the file with hetsyn keys add"
        ) from error
    if len(content) > MOST_BYTES:
        raise KeysUnusable(f"{path}: a keys file has at most {MOST_BYTES} bytes: name another")
    return parse_document(content, str(path))


def write_document(path: Path, document: KeysDocument) -> None:
    """Replace a keys file at once: a server reads the old one or the new one. A new file is its owner's alone.

    Raises:
        KeysUnusable: it cannot be written. It is as before.
    """
    path = path.resolve()  # a link stays one
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with the rights 0600
        with os.fdopen(handle, "w") as file:
            _keep_rights(path, handle)
            file.write(document.to_json())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        _sync(path.parent)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()
        raise KeysUnusable(
            f"{path}: the keys cannot be written ({error.strerror}): name a file in a folder that you may change"
        ) from error


@contextmanager
def changing(path: Path) -> Iterator[KeysDocument]:
    """Lock a keys file for a change, and read it; it is empty where there is no file.

    Raises:
        KeysUnusable: as ``read_document``, or there is no such folder.
    """
    path = path.resolve()
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise KeysUnusable(f"{path.parent}: {error.strerror}: name a file in a folder that there is") from error
    try:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(folder, fcntl.LOCK_EX)
        yield read_document(path) if path.exists() else KeysDocument()
    finally:
        os.close(folder)


def _keep_rights(path: Path, handle: int) -> None:
    """Give a file the owner and the rights of the one that it replaces: a server may run as another user."""
    if sys.platform == "win32" or not path.exists():
        return
    status = path.stat()
    os.fchmod(handle, status.st_mode & 0o644)
    with suppress(OSError):  # only root may give files away
        os.fchown(handle, status.st_uid, status.st_gid)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def utc_now() -> datetime:
    """Return the time in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
