"""The keys of carried sessions: of several, the first seals and all open, so that keys can be replaced.

A key is 32 random bytes, written in base64, one a line; ``#`` begins a comment. It is found by an id that follows
from it, so that no two servers can mean different keys by one id:

    openssl rand -base64 32 > carry.keys
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import CarryUnavailable

if TYPE_CHECKING:
    from service.carried.sealing import Seal

VARIABLE = "HETSYN_CARRY_KEYS"
KEY_BYTES, ID_BYTES = 32, 8


class CarryKeys:
    """Seals by the ids of their keys.

    Raises:
        CarryUnavailable: no key, one twice, or one of another length.
        ModuleNotFoundError: cryptography is not installed.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        from service.carried.sealing import Seal

        if not keys or len(set(keys)) < len(keys) or any(len(key) != KEY_BYTES for key in keys):
            raise CarryUnavailable(f"keys of carried sessions: give one or more, each once, of {KEY_BYTES} bytes")
        self._seals = {key_id(key): Seal(key) for key in keys}
        self.ids = tuple(self._seals)

    @property
    def current(self) -> tuple[bytes, Seal]:
        """The key that seals, and its id."""
        return self.ids[0], self._seals[self.ids[0]]

    def get(self, named: bytes) -> Seal | None:
        """The key of an id; None where it is not here."""
        return self._seals.get(named)


def key_id(key: bytes) -> bytes:
    """Says which key it is, and nothing about it."""
    return hashlib.sha256(b"hetsyn carried key\0" + key).digest()[:ID_BYTES]


def read_keys(path: Path) -> CarryKeys:
    """The keys of a file.

    Raises:
        CarryUnavailable: it cannot be read, or does not hold keys.
    """
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise CarryUnavailable(f"{path}: the keys of carried sessions cannot be read ({error})") from error
    return parse_keys(text, str(path))


def parse_keys(text: str, where: str) -> CarryKeys:
    """Keys by line, or separated by commas. What is wrong is named by its place alone: a key is a secret.

    Raises:
        CarryUnavailable: they are none.
    """
    keys = []
    for number, line in enumerate(text.replace(",", "\n").splitlines(), 1):
        written = line.partition("#")[0].strip()
        if not written:
            continue
        try:
            key = base64.b64decode(written, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise CarryUnavailable(
                f"{where}: key {number} is not {KEY_BYTES} bytes in base64: make one with openssl rand -base64 32"
            )
        keys.append(key)
    if not keys:
        raise CarryUnavailable(f"{where}: holds no key: make one with openssl rand -base64 32")
    if len(set(keys)) < len(keys):
        raise CarryUnavailable(f"{where}: holds a key twice: delete one of the two")
    return CarryKeys(keys)
