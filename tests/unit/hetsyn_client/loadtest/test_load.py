from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetsyn_client.errors import InputError
from hetsyn_client.loadtest.load import Load, Served, choose_load, random_spikes, recorded, synthesised
from service.wire.content_types import parse_content_type
from service.wire.events import unpack_events
from service.wire.values import unpack_values

SPEECH = Served("speech", channels=40, step_s=0.01, sample_rate_hz=8000)
SENSORS = Served("sensors", channels=9, step_s=0.01, sample_rate_hz=None, row_values=3)
SPIKES = Served("shd", channels=700, step_s=0.004, sample_rate_hz=None)


def write_wav(path: Path, samples: list[int], rate_hz: int = 8000, channels: int = 1) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.array(samples, "<i2").tobytes())


def chosen(model: Served, recordings: Path | None = None) -> Load:
    return choose_load(model, 0.1, recordings)


def test_spikes_have_the_density_and_the_models_channels() -> None:
    load = random_spikes(SPIKES, 0.1, 0.045)
    chunks = [unpack_events(chunk) for chunk in load.chunks]
    assert {chunk.steps for chunk in chunks} == {25}
    assert max(int(chunk.unit.max()) for chunk in chunks) == 699
    density = sum(len(chunk.step) for chunk in chunks) / (len(chunks) * 25 * 700)
    assert density == pytest.approx(0.045, rel=0.02)
    assert load.period_s == 0.1
    assert load == random_spikes(SPIKES, 0.1, 0.045)


@pytest.mark.parametrize(("chunk_s", "steps"), [(0.099, 25), (0.001, 1), (0.103, 26)])
def test_spikes_and_values_come_in_whole_steps_and_last_as_long(chunk_s: float, steps: int) -> None:
    for load in (random_spikes(SPIKES, chunk_s, 0.045), choose_load(SENSORS, steps / 100, None)):
        assert f", {steps} steps of " in load.description
    assert random_spikes(SPIKES, chunk_s, 0.045).period_s == pytest.approx(steps * 0.004)


def test_a_model_of_values_gets_smooth_ones() -> None:
    load = chosen(SENSORS)
    assert load.content_type == "application/vnd.hetsyn.values;channels=3"
    parameters = parse_content_type(load.content_type)[1]
    values = np.concatenate([unpack_values(chunk, parameters).values for chunk in load.chunks])
    assert values.shape == (256 * 10, 3)
    assert 0.9 < values.max() <= 1
    assert np.abs(np.diff(values, axis=0)).max() < 2 * np.pi * 5.0 * 0.01 + 1e-6
    assert load.description == "sines of 0.5 to 5 Hz, 10 steps of 3 values"
    assert load == chosen(SENSORS)
    assert choose_load(SENSORS, 0.099, None).period_s == pytest.approx(0.1)


def test_synthesised_sound_lasts_as_long_as_it_says() -> None:
    load = synthesised(8000, 0.1)
    assert load.content_type == "audio/pcm;encoding=pcm_s16le;rate=8000"
    assert {len(chunk) for chunk in load.chunks} == {1600}
    sound = np.frombuffer(b"".join(load.chunks), "<i2")
    assert 3_000 < abs(sound).max() < 12_000


def test_recordings_are_joined_and_their_end_is_filled_from_the_beginning(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", list(range(500)))
    write_wav(tmp_path / "b.wav", [7, 9] * 600, channels=2)
    load = recorded(tmp_path, 0.1)
    samples = np.frombuffer(b"".join(load.chunks), "<i2")
    assert len(samples) == 1_600
    assert np.abs(samples[:1_100] - np.array([*range(500), *[8] * 600])).max() <= 1  # two channels are averaged
    assert samples[1_100:].tolist() == list(range(500))
    assert "2 recordings at 8000 Hz" in load.description


def test_the_period_is_what_the_samples_last(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", [1] * 3_000, rate_hz=11_025)
    load = recorded(tmp_path / "a.wav", 0.01)
    assert len(load.chunks[0]) == 220
    assert load.period_s == 110 / 11_025


def test_recordings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.wav files"):
        recorded(tmp_path, 0.1)
    (tmp_path / "x.wav").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"x\.wav: this is not a WAV file"):
        recorded(tmp_path, 0.1)
    write_wav(tmp_path / "x.wav", [])
    with pytest.raises(InputError, match="empty"):
        recorded(tmp_path, 0.1)
    write_wav(tmp_path / "x.wav", [1] * 100)
    write_wav(tmp_path / "y.wav", [1] * 100, rate_hz=16_000)
    with pytest.raises(InputError, match=r"\[8000, 16000\] Hz"):
        recorded(tmp_path, 0.1)


def test_the_load_fits_the_model(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", [1] * 100)
    assert "synthesised" in chosen(SPEECH).description
    assert "density 0.045" in chosen(SPIKES).description
    assert "1 recordings" in chosen(SPEECH, recordings=tmp_path).description
    with pytest.raises(InputError, match="takes no sound"):
        chosen(SPIKES, recordings=tmp_path)


SHD: dict[str, Any] = {
    "name": "shd",
    "input": {"channels": 700, "step_s": 0.004},
    "encoder": None,
}


@pytest.mark.parametrize(
    ("kind", "encoder", "expected"),
    [
        ("spikes", {"kind": "audio", "channels": 1, "sample_rate_hz": 8000}, (8000, 0)),
        ("spikes", {"kind": "values", "channels": 3, "sample_rate_hz": 0}, (None, 3)),
        ("values", None, (None, 700)),
        ("values", {"kind": "audio", "channels": 1, "sample_rate_hz": 16_000}, (16_000, 700)),
    ],
)
def test_what_the_model_takes(kind: str, encoder: dict[str, Any] | None, expected: tuple[int | None, int]) -> None:
    described = {**SHD, "input": {"kind": kind, "channels": 700, "step_s": 0.004}, "encoder": encoder}
    model = Served.described(described)
    assert (model.sample_rate_hz, model.row_values) == expected


def test_what_is_known_of_a_model_is_what_the_server_says() -> None:
    assert Served.described(SHD) == Served("shd", 700, 0.004, None)
