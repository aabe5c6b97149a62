"""The seam to ``cryptography``, and the only file that imports it: encryption that also authenticates.

XAES-256-GCM (C2SP): AES-256-GCM under a key that is derived for each message from the first half of a nonce of 192
bits. Such a nonce may be drawn at random for as many messages as there will ever be (2^80 under one key), where
AES-256-GCM's own of 96 bits would be used up after 2^32, within days on a busy server.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 24, 16

_BLOCK_BITS = 128
_REDUCTION = 0x87  # of the field of CMAC's subkeys


class Seal:
    """Seals and opens under one key. May be used by several threads."""

    def __init__(self, key: bytes) -> None:
        # one block at a time, as a pseudorandom function: no data is encrypted in this mode
        self._derivation = Cipher(algorithms.AES(key), modes.ECB())
        doubled = int.from_bytes(self._derivation.encryptor().update(bytes(16))) << 1
        is_reduced = doubled >> _BLOCK_BITS
        self._mask = (doubled & ((1 << _BLOCK_BITS) - 1)) ^ (_REDUCTION if is_reduced else 0)

    def seal(self, content: bytes, associated: bytes) -> bytes:
        """A fresh nonce, and the content that only ``open`` with the same associated data gives back."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self.seal_with(nonce, content, associated)

    def seal_with(self, nonce: bytes, content: bytes, associated: bytes) -> bytes:
        """The same under a nonce that nothing else is sealed with, and without it."""
        return self._derived(nonce).encrypt(nonce[12:], content, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes | None:
        """What was sealed; None where it was not sealed by this key, with this associated data, and as it is."""
        nonce = sealed[:NONCE_BYTES]
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            return None
        try:
            return self._derived(nonce).decrypt(nonce[12:], memoryview(sealed)[NONCE_BYTES:], associated)
        except InvalidTag:
            return None

    def _derived(self, nonce: bytes) -> AESGCM:
        """CMAC of two blocks, each a counter and half of the nonce: a single masked block needs no chaining."""
        blocks = b"".join(
            (int.from_bytes(bytes((0, counter)) + b"X\0" + nonce[:12]) ^ self._mask).to_bytes(16) for counter in (1, 2)
        )
        return AESGCM(self._derivation.encryptor().update(blocks))
