"""Seals sessions as tokens that clients carry, and opens them.

    offset  size  little endian
    0       4     magic "HSCT"
    4       2     format version
    6       2     zero
    8       4     bytes of the whole token
    12      8     id of the key
    20      32    model hash
    52      24    nonce
    76            the record of ``store.record``, encrypted, and a tag of 16 bytes that authenticates it and the
                  first 52 bytes

The record contains the session's id, number, last reply, times and state. A client can read the key's id, the model's
hash and the length. The server uses nothing else of a token before it has opened it.
"""

from __future__ import annotations

import struct

from service.carried.carry_keys import ID_BYTES, CarryKeys
from service.clock import Clock
from service.errors import TokenExpired, TokenForeign, TokenForged, TokenFormat, TokenKeyUnknown
from service.keys.ids import owner_of
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.session.protocol import Lifetimes, status
from service.session.session import Session
from service.store.record import Packing, read

MAGIC = b"HSCT"
FORMAT_VERSION = 1
OVERHEAD_BYTES = 24 + 16  # nonce and tag

HEAD = struct.Struct(f"<4sHHI{ID_BYTES}s32s")


class Tokens:
    """Seals sessions as tokens, opens tokens, and counts both. Used from one event loop."""

    def __init__(
        self, keys: CarryKeys, catalog: ModelCatalog, lifetimes: Lifetimes, counters: Counters, wall: Clock
    ) -> None:
        self._keys = keys
        self._catalog = catalog
        self._lifetimes = lifetimes
        self._counters = counters
        self._wall = wall
        self._packing = Packing()

    def seal(self, session_id: str, session: Session) -> bytes:
        record = self._packing.pack(session_id, session)
        key_id, seal = self._keys.current
        head = HEAD.pack(
            MAGIC, FORMAT_VERSION, 0, HEAD.size + OVERHEAD_BYTES + len(record), key_id,
            self._packing.model_hash(session),
        )  # fmt: skip
        token = head + seal.seal(record, head)
        self._counters.tokens_sealed += 1
        self._counters.token_bytes += len(token)
        return token

    def open(self, token: bytes, owner: str = "") -> tuple[str, Session]:
        """Open a token as ``unseal`` does, or raise TokenExpired if its session has expired."""
        session_id, session = self.unseal(token, owner)
        if status(session.known, self._wall(), self._lifetimes) == "none":
            raise TokenExpired(
                f"the token has expired, {self._lifetimes.idle_s:g} s after its chunk or {self._lifetimes.age_s:g} s "
                "after the session's first: begin another session"
            )
        self._counters.tokens_opened += 1
        return session_id, session

    def unseal(self, token: bytes, owner: str = "") -> tuple[str, Session]:
        """Open a token of any age. May run on a thread.

        Args:
            owner: name of the client's key; empty without a key, and for an exported session.

        Raises:
            TokenForeign, TokenFormat, TokenKeyUnknown, TokenForged: the token cannot be opened.
            ModelAbsent: the server lacks the session's model.
            ModelChanged: the session's model has other content here.
            StateFormat: a server of another version packed the session.
        """
        seal = self._keys.get(_key_id(token))
        if seal is None:
            raise TokenKeyUnknown(
                "the token was sealed with a key that this server does not have: "
                "give all servers the same keys, or begin another session"
            )
        content = seal.open(token[HEAD.size :], token[: HEAD.size])
        if content is None:
            raise TokenForged(
                "the token was changed after it was sealed, or cut off: send it as the server gave it, or begin "
                "another session"
            )
        record = read(content)
        if (sealed_for := owner_of(record.session)) != owner:
            raise TokenForged(
                "the token belongs to a key, and goes on with it alone: send it with that key, to POST /infer"
                if sealed_for
                else "the token is an exported session, or that of a client without a key: import it with "
                "PUT /sessions/{id}/state, or send it without a key"
            )
        session = self._packing.unpack(record, self._catalog.of_session(record.model, record.version))
        return record.session, session


def _key_id(token: bytes) -> bytes:
    """Read the id of the key that sealed a token; errors as of ``unseal``."""
    if len(token) < HEAD.size or token[:4] != MAGIC:
        raise TokenForeign("these bytes are not a token of hetsyn: send the token of the last reply unchanged")
    _, version, _, _, key_id, _ = HEAD.unpack_from(token)
    if version != FORMAT_VERSION:
        relation = "an older" if version < FORMAT_VERSION else "a newer"
        raise TokenFormat(
            f"the token has {relation} format, {version}, but this server reads {FORMAT_VERSION}: "
            "send it to a server of the version that made it, or begin another session"
        )
    return bytes(key_id)
