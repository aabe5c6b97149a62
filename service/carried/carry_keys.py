"""The keys of carried sessions. The first key seals and all of them open, so that keys can be replaced one by one.

A key is 32 random bytes, written in base64, one key a line; ``#`` starts a comment:

    openssl rand -base64 32 > carry.keys

A key's id is derived from the key, so one id means the same key on every server.
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
HOW_TO = (
    "make some with 'openssl rand -base64 32 > carry.keys', and start all servers with "
    "'hetsyn serve --carry-keys carry.keys'"
)
KEY_BYTES, ID_BYTES = 32, 8


class CarryKeys:
    """The keys' seals, by id. The first key seals.

    Raises:
        CarryUnavailable: there is no key, a key occurs twice, or a key does not have 32 bytes.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or len(set(keys)) < len(keys) or any(len(key) != KEY_BYTES for key in keys):
            raise CarryUnavailable(f"carried sessions need one or more different keys of {KEY_BYTES} bytes")
        from service.carried.sealing import Seal  # 5 MB that a server without keys does without

        self._seals = {key_id(key): Seal(key) for key in keys}
        self.ids = tuple(self._seals)

    @property
    def current(self) -> tuple[bytes, Seal]:
        """Return the id and the seal of the first key."""
        return self.ids[0], self._seals[self.ids[0]]

    def get(self, id_of_key: bytes) -> Seal | None:
        return self._seals.get(id_of_key)


def key_id(key: bytes) -> bytes:
    """Derive the id of a key, 8 bytes of its SHA-256. It reveals nothing about the key."""
    return hashlib.sha256(b"hetsyn carried key\0" + key).digest()[:ID_BYTES]


def read_keys(path: Path) -> CarryKeys:
    """Read keys from a file. Raises CarryUnavailable if it cannot be read, or does not contain keys."""
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise CarryUnavailable(f"{path}: the keys of carried sessions cannot be read ({error})") from error
    return parse_keys(text, str(path))


def parse_keys(text: str, source: str) -> CarryKeys:
    """Parse keys in base64 that are separated by line ends or commas, or raise CarryUnavailable.

    The message names a wrong key by its number alone, because it is a secret.
    """
    keys = []
    for number, line in enumerate(text.replace(",", "\n").splitlines(), 1):
        encoded = line.partition("#")[0].strip()
        if not encoded:
            continue
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise CarryUnavailable(
                f"{source}: key {number} is not {KEY_BYTES} bytes in base64: make one with openssl rand -base64 32"
            )
        keys.append(key)
    if not keys:
        raise CarryUnavailable(f"{source}: contains no key: make one with openssl rand -base64 32")
    if len(set(keys)) < len(keys):
        raise CarryUnavailable(f"{source}: contains a key twice: delete one of the two")
    return CarryKeys(keys)
