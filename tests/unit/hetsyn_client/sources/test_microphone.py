from __future__ import annotations

import asyncio
import sys
from itertools import islice
from typing import Any

import numpy as np
import pytest

from hetsyn_client import InputError, Microphone
from tests.support.data.fake_sounddevice import FakeSounddevice
from tests.support.data.signals import sound

RATE_HZ = 44_100
SOUND = sound(10_000)


def plug_in(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSounddevice(SOUND, RATE_HZ, **options))


def samples(bodies: list[bytes]) -> list[int]:
    return [int(sample) for sample in np.frombuffer(b"".join(bodies), "<i2")]


def test_it_hears_at_its_own_rate_until_it_is_unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)
    with Microphone(0.05) as microphone:
        chunks = list(microphone)
    assert microphone.sample_rate_hz == RATE_HZ
    assert {chunk.body.content_type for chunk in chunks} == {"audio/pcm;encoding=pcm_s16le;rate=44100"}
    assert samples([chunk.body.content for chunk in chunks]) == SOUND.tolist()
    assert [len(chunk.body.content) for chunk in chunks] == [4410] * 4 + [2360]
    assert [chunk.until_s for chunk in chunks] == pytest.approx([0.05, 0.1, 0.15, 0.2, 10_000 / RATE_HZ])
    assert not any(chunk.is_last for chunk in chunks)
    assert microphone.overflows == 0


def test_an_event_loop_is_not_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, speed=10.0)

    async def listen() -> tuple[list[bytes], int]:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        with Microphone(0.05) as microphone:
            heard = [chunk.body.content async for chunk in microphone]
        counting.cancel()
        return heard, turns

    heard, turns = asyncio.run(listen())
    assert samples(heard) == SOUND.tolist()
    assert turns > 10


def test_it_stops_with_its_block_or_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, speed=1.0)
    with Microphone(0.01) as microphone:
        first = list(islice(microphone, 2))
        microphone.stop()
        rest = list(microphone)
    assert len(first) == 2
    assert len(rest) < 20
    assert list(microphone) == []


def test_it_counts_what_the_system_has_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, overflow=True)
    with Microphone(0.1) as microphone:
        assert len(list(microphone)) == microphone.overflows == 3


@pytest.mark.parametrize("device", ["none", "busy"])
def test_a_microphone_that_cannot_be_used_gets_a_sentence(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    plug_in(monkeypatch)
    with pytest.raises(InputError, match=r"cannot be used \(.*\): choose one that"), Microphone(device=device):
        pass


def test_without_sounddevice_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(InputError, match=r"a microphone needs sounddevice: pip install -e '\.\[mic\]'"), Microphone():
        pass


def test_a_microphone_has_to_be_open() -> None:
    with pytest.raises(InputError, match="the microphone is not open"):
        next(iter(Microphone()))

    async def listen() -> None:
        async for _ in Microphone():
            pass

    with pytest.raises(InputError, match="the microphone is not open"):
        asyncio.run(listen())
