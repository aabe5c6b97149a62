"""The token of a key, ``hsk_ID_SECRET``. The public id finds the hash; the secret has 256 random bits.

The hash is BLAKE2b with a salt. A slow hash such as argon2 protects passwords that can be guessed; nobody guesses 256
random bits, and every request would pay for it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable

PREFIX = "hsk_"
ID_BYTES, SECRET_BYTES, SALT_BYTES, HASH_BYTES = 8, 32, 16, 32

_TOKEN = re.compile(r"hsk_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)
# each character as it is or as a URL may have it, encoded once or more; a backslash escapes a quote of JSON
_START = "".join(f"(?:{char}|%(?:25)*{ord(char):02x})" for char in PREFIX)
_ANYWHERE = re.compile(
    rf"{_START}((?:%(?:25)*(?:3[0-9]|6[1-6])|[0-9a-f]){{1,16}})[^\s\"'\\]*", re.ASCII | re.IGNORECASE
)
_BEARER = re.compile(r"bearer +(\S+) *", re.ASCII | re.IGNORECASE)


class Token:
    """A token. Its ``repr`` has no secret, so that no log and no traceback has it.

    Args:
        id_: public, 16 hexadecimal digits.
        secret: 43 characters of base64url.
    """

    __slots__ = ("id", "secret")

    def __init__(self, id_: str, secret: str) -> None:
        self.id = id_
        self.secret = secret

    @classmethod
    def new(cls) -> Token:
        return cls(secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Token | None:
        """Parse a token; None if the text is no token."""
        found = _TOKEN.fullmatch(text)
        return None if found is None else cls(found[1], found[2])

    @property
    def text(self) -> str:
        """Write the token as its holder sends it."""
        return f"{PREFIX}{self.id}_{self.secret}"

    def __repr__(self) -> str:
        return f"Token({self.id!r}, ...)"


def redacted(text: str) -> str:
    """Replace the secrets of all tokens in a text: a client may send one where a log repeats it."""
    return _ANYWHERE.sub(rf"{PREFIX}\1_...", text) if PREFIX in text.lower() or "%" in text else text


def of_bearer(value: str) -> str | None:
    """Read the credential of ``Authorization: Bearer CREDENTIAL``; None for another scheme."""
    found = _BEARER.fullmatch(value)
    return None if found is None else found[1]


def credentials_of(headers: Iterable[tuple[bytes, bytes]]) -> list[str | None]:
    """Return the credentials of a request: of each header ``Authorization``. Names are in lower case."""
    return [of_bearer(value.decode("latin-1")) for name, value in headers if name == b"authorization"]


def hashed(secret: str, salt: bytes) -> bytes:
    """Hash a secret to 32 bytes. The salt has 16 random bytes."""
    return hashlib.blake2b(secret.encode(), digest_size=HASH_BYTES, salt=salt, person=b"hetsyn key").digest()
