"""Authenticated encryption with XAES-256-GCM (C2SP). The only file that imports its ciphers.

XAES-256-GCM is AES-256-GCM with a key that is derived for each message from the first half of a 192-bit nonce. The
nonce can be random for 2^80 messages under one key. The 96-bit nonce of AES-256-GCM alone allows 2^32 messages, which a
busy server sends within days.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 24, 16

_BLOCK_BITS = 128
_REDUCTION = 0x87  # of the field for the doubling of CMAC's subkeys


class Seal:
    """Seals and opens messages under one key of 32 bytes. Threads may share it."""

    def __init__(self, key: bytes) -> None:
        # ECB of single blocks is the key derivation's pseudorandom function; it encrypts no data
        self._derivation = Cipher(algorithms.AES(key), modes.ECB())
        doubled = int.from_bytes(self._derivation.encryptor().update(bytes(16))) << 1
        is_reduced = doubled >> _BLOCK_BITS
        self._mask = (doubled & ((1 << _BLOCK_BITS) - 1)) ^ (_REDUCTION if is_reduced else 0)

    def seal(self, content: bytes, associated: bytes) -> bytes:
        """Encrypt ``content``, and authenticate it and ``associated``, under a random nonce.

        Returns:
            Nonce (24 bytes), encrypted content and tag (16 bytes).
        """
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self.seal_with(nonce, content, associated)

    def seal_with(self, nonce: bytes, content: bytes, associated: bytes) -> bytes:
        """Seal under a given nonce, which must not be used again. The result has no nonce."""
        return self._derived(nonce).encrypt(nonce[12:], content, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes | None:
        """Decrypt the result of ``seal``; None if key, associated data or bytes are not those of ``seal``."""
        nonce = sealed[:NONCE_BYTES]
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            return None
        try:
            return self._derived(nonce).decrypt(nonce[12:], memoryview(sealed)[NONCE_BYTES:], associated)
        except InvalidTag:
            return None

    def _derived(self, nonce: bytes) -> AESGCM:
        """Derive the cipher of a message: its key is the CMAC of two blocks, each a counter and half of the nonce.

        The CMAC of a single block is that block, masked and encrypted.
        """
        blocks = b"".join(
            (int.from_bytes(bytes((0, counter)) + b"X\0" + nonce[:12]) ^ self._mask).to_bytes(16) for counter in (1, 2)
        )
        return AESGCM(self._derivation.encryptor().update(blocks))
