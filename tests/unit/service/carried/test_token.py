"""Tokens as a registry gives and takes them, and everything that can be wrong with one."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.carried.carry_keys import CarryKeys
from service.carried.token import HEAD, Tokens
from service.errors import (
    ConflictingChunk,
    HetsynError,
    ModelAbsent,
    ModelChanged,
    ModelMismatch,
    NotFound,
    OutOfOrder,
    StateMismatch,
    TokenError,
    TokenExpired,
    TokenForeign,
    TokenForged,
    TokenFormat,
    TokenKeyUnknown,
)
from service.models.catalog import ModelCatalog
from service.session.session import Answer
from service.store import record as packing
from service.wire.chunk import AudioChunk
from service.wire.decode import decode_json
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import load_fake
from tests.support.clients.infer_request import infer_request
from tests.support.clients.replies import Reply
from tests.support.clock import Clock
from tests.support.data.signals import sound
from tests.support.product import make_server
from tests.support.servers.apply_chunk import apply_chunk

OLD, NEW = bytes(range(32)), bytes(range(1, 33))


class Carrier:
    """A registry for carried sessions alone."""

    def __init__(self, folder: Path, keys: list[bytes] | None, clock: Clock, default: str | None = None) -> None:
        if default is not None:
            (folder / "default").write_text(default)
        catalog = ModelCatalog(folder, load_fake)
        known = None if keys is None else CarryKeys(keys)
        self.parts = make_server(
            catalog, Clock(5.0), clock, keys=known, session_idle_s=60, session_age_s=1000, inline_s=10.0
        )
        self.registry, self.counters = self.parts.registry, self.parts.counters

    @property
    def tokens(self) -> Tokens:
        tokens = self.parts.carried._tokens
        assert tokens is not None
        return tokens

    async def close(self) -> None:
        await self.parts.close()

    async def send(self, token: bytes | None = None, session: str | None = None, *args: Any, **kwargs: Any) -> Answer:
        request = infer_request(session, *args, **kwargs)._replace(carry=True, token=token)
        with self.parts.admission.permit("") as permit:
            return await self.parts.carried.infer(request, permit)

    async def refused(self, kind: type[HetsynError], sentence: str, *args: Any, **kwargs: Any) -> HetsynError:
        with pytest.raises(kind, match=sentence) as caught:
            await self.send(*args, **kwargs)
        assert type(caught.value) is kind
        return caught.value


@pytest.fixture
def clock() -> Clock:
    return Clock(now_s=1_000_000.0)


@pytest.fixture
def carrier(models: Path, clock: Clock) -> Carrier:
    return Carrier(models, [OLD], clock)


def has(carried: Answer) -> bytes:
    assert carried.token is not None
    return carried.token


def of(carried: Answer) -> Reply:
    return Reply(**carried.reply)


async def test_chunks_go_from_server_to_server_and_answer_as_one_would(models: Path, clock: Clock) -> None:
    """To the bit, with sound of a rate that is resampled, in chunks that fill no whole steps."""
    one, other = (Carrier(models, [OLD], clock) for _ in range(2))
    samples = (sound(4000) / 32_768).astype(np.float32)
    pieces = [AudioChunk(samples[begin : begin + 371], 11_025) for begin in range(0, len(samples), 371)]
    token = None
    for n, piece in enumerate(pieces):
        end = n == len(pieces) - 1
        with one.parts.admission.permit("") as permit:
            expected = (await apply_chunk(one.registry, infer_request("a", n, chunk=piece, end=end), permit)).reply
        carried = await (one, other)[n % 2].send(token, "a", n, chunk=piece, end=end)
        assert carried.reply == expected
        token = carried.token
    assert token is None  # it has ended: there is nothing to carry
    assert (one.registry.sessions.open, other.registry.sessions.open) == (0, 0)
    counters = other.counters
    assert (counters.tokens_opened, counters.chunks_applied) == (len(pieces) // 2, len(pieces) // 2)


async def test_the_same_token_and_chunk_have_the_same_answer(carrier: Carrier, clock: Clock) -> None:
    first = await carrier.send(None, "a")
    second = await carrier.send(has(first), None, None, seed=1)
    clock.now_s += 1
    again = await carrier.send(has(first), None, 1, seed=1)
    assert again.reply == second.reply
    assert again.token != second.token  # sealed anew
    thirds = [await carrier.send(has(token), "a", None, seed=2) for token in (second, again)]
    assert thirds[0].reply == thirds[1].reply
    assert (of(thirds[0]).session, of(thirds[0]).seq) == ("a", 2)


async def test_numbers_are_judged_as_in_any_session(carrier: Carrier) -> None:
    await carrier.refused(NotFound, "begins with seq 0", None, "a", 1)
    second = await carrier.send(has(await carrier.send(None, "a", 0)), "a", 1, seed=1)
    token = has(second)
    replayed = await carrier.send(token, "a", 1, seed=1)
    assert replayed.reply == second.reply
    assert carrier.counters.chunks_replayed == 1
    assert of(await carrier.send(has(replayed), None, 2)).seq == 2
    await carrier.refused(ConflictingChunk, "send new content as seq 2", token, "a", 1, seed=7)
    await carrier.refused(OutOfOrder, "send seq 2 next", token, "a", 3)
    await carrier.refused(ModelMismatch, "version '1', not '2'", token, None, 2, version="2")
    await carrier.refused(StateMismatch, "the token belongs to session 'a', not 'b'", token, "b")


async def test_keys_are_replaced_one_server_after_the_other(models: Path, clock: Clock) -> None:
    before, both, after = (Carrier(models, keys, clock) for keys in ([OLD], [NEW, OLD], [NEW]))
    token = has(await before.send(None, "a"))
    await after.refused(TokenKeyUnknown, "give all servers the same keys", token)
    token = has(await both.send(token, seed=1))
    assert of(await after.send(token, seed=2)).seq == 2
    await before.refused(TokenKeyUnknown, "give all servers the same keys", token)


@pytest.mark.parametrize(
    ("idle_s", "chunks", "is_over"), [(59, 1, False), (60, 1, True), (50, 19, False), (50, 20, True)]
)
async def test_a_token_expires(carrier: Carrier, clock: Clock, idle_s: float, chunks: int, is_over: bool) -> None:
    """60 s after its chunk, and 1000 s after the first."""
    token = has(await carrier.send(None, "a"))
    for n in range(1, chunks):
        clock.now_s += idle_s
        token = has(await carrier.send(token, seed=n))
    clock.now_s += idle_s
    if is_over:
        await carrier.refused(TokenExpired, "60 s after its chunk or 1000 s after", token)
    else:
        await carrier.send(token)


async def test_a_replay_does_not_make_a_token_younger(carrier: Carrier, clock: Clock) -> None:
    token = has(await carrier.send(None, "a", 0))
    clock.now_s += 50
    token = has(await carrier.send(token, "a", 0))
    clock.now_s += 10
    await carrier.refused(TokenExpired, "has expired", token)


async def test_the_model_is_the_one_that_it_began_on(models: Path, tmp_path: Path, clock: Clock) -> None:
    write_artifact(tmp_path / "changed", change={"provenance": {"seed": 8}})
    write_artifact(tmp_path / "next", version="2")
    write_artifact(models, version="2")
    first = Carrier(models, [OLD], clock)
    token = has(await first.send(None, "a", version="1"))
    await Carrier(tmp_path / "changed", [OLD], clock).refused(ModelChanged, "with other files of model", token)
    await Carrier(tmp_path / "next", [OLD], clock).refused(ModelAbsent, "version '1', which", token)
    assert of(await first.send(token)).version == "1"


async def test_a_token_says_nothing_of_the_session(carrier: Carrier) -> None:
    token = has(await carrier.send(None, "a-name-to-be-found"))
    session_id, session = carrier.tokens.open(token)
    assert session_id == "a-name-to-be-found"
    assert session.stream is not None
    state = session.stream.network.tobytes()
    for secret in (b"a-name", b"digits", b"probabilities", b"HSST", state[:8], OLD[:8]):
        assert secret not in token
    assert len(token) == len(packing.Packing().pack(session_id, session)) + 92


async def begun(carrier: Carrier) -> bytes:
    """The token of another session."""
    token = has(await carrier.send(None, "a"))
    await carrier.close()
    return token


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Carrier, bytes]:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder)
    carrier = Carrier(folder, [OLD], Clock(now_s=1_000_000.0))
    return carrier, asyncio.run(begun(carrier))


def test_any_bit_of_any_byte_is_authenticated(sealed: tuple[Carrier, bytes]) -> None:
    carrier, token = sealed
    tokens = carrier.tokens
    tokens.open(token)
    errors = {}
    for index in range(len(token)):
        for bit in (0, 7):
            changed = bytearray(token)
            changed[index] ^= 1 << bit
            with pytest.raises(TokenError) as caught:
                tokens.open(bytes(changed))
            errors[index] = type(caught.value)
    indices = {kind: [index for index in errors if errors[index] is kind] for kind in set(errors.values())}
    assert indices[TokenForeign] == list(range(4))
    assert indices[TokenFormat] == [4, 5]
    assert indices[TokenKeyUnknown] == list(range(12, 20))
    assert set(range(20, len(token))) <= set(indices[TokenForged])


def test_a_token_that_is_cut_off_is_reported_at_every_length(sealed: tuple[Carrier, bytes]) -> None:
    carrier, token = sealed
    tokens = carrier.tokens
    for length in range(len(token)):
        with pytest.raises(TokenForeign if length < HEAD.size else TokenForged):
            tokens.open(token[:length])
    with pytest.raises(TokenForged, match="or cut off"):
        tokens.open(token + b"\0")


def test_a_token_is_written_in_one_way(sealed: tuple[Carrier, bytes]) -> None:
    """Base64 has bits to spare at its end: they are not free to be changed either."""
    token = sealed[1]
    padded = token + bytes(-(len(token) + 2) % 3)
    text = base64.b64encode(padded).decode()
    assert text.endswith("=")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = text.rstrip("=")[-1]
    spare = text.replace(last + "=", letters[letters.index(last) ^ 1] + "=")
    assert base64.b64decode(spare) == padded
    body = '{"end": true, "token": "%s"}'
    assert decode_json((body % text).encode()).token == padded
    for wrong in (spare, text.rstrip("="), text + "=", "!" + text, " " + text, "-_" + text):
        with pytest.raises(TokenForeign, match="not base64"):
            decode_json((body % wrong).encode())
