from __future__ import annotations

import pytest

from service.carried.sealing import NONCE_BYTES, Seal

NONCE = b"ABCDEFGHIJKLMNOPQRSTUVWX"


@pytest.mark.parametrize(
    ("key", "associated", "sealed"),
    [
        (b"\x01", b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (b"\x03", b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ],
)
def test_it_is_the_published_algorithm(key: bytes, associated: bytes, sealed: str) -> None:
    """The two test vectors of C2SP's XAES-256-GCM; they take both branches of the subkey's doubling."""
    seal = Seal(key * 32)
    assert seal.seal_with(NONCE, b"XAES-256-GCM", associated).hex() == sealed
    assert seal.open(NONCE + bytes.fromhex(sealed), associated) == b"XAES-256-GCM"


def test_what_is_sealed_is_opened_by_its_key_with_its_associated_data() -> None:
    seal = Seal(bytes(range(32)))
    sealed = seal.seal(b"content", b"beside")
    assert b"content" not in sealed
    assert seal.open(sealed, b"beside") == b"content"
    assert seal.open(sealed, b"besides") is None
    assert Seal(bytes(range(1, 33))).open(sealed, b"beside") is None
    assert seal.open(sealed + b"0", b"beside") is None
    for length in range(len(sealed)):
        assert seal.open(sealed[:length], b"beside") is None


def test_a_nonce_is_not_used_twice() -> None:
    seal = Seal(bytes(32))
    nonces = {seal.seal(b"", b"")[:NONCE_BYTES] for _ in range(1000)}
    assert len(nonces) == 1000
