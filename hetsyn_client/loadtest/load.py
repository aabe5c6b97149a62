"""The model under load, and the chunks to send: recordings, synthesised sound or values, or random spikes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.errors import InputError
from hetsyn_client.events import LARGEST, pack_events
from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.sources.formats import read_sound
from hetsyn_client.values import pack_values

DISTINCT_CHUNKS = 256  # of random spikes or values; each stream begins at a different one
MOST_NUMBERS = 2**22  # limit over all chunks of values
SLOWEST_HZ, FASTEST_HZ = 0.5, 5.0  # frequencies of values, like people's movements
SOUND_S, SYLLABLES_HZ = 20.0, 2.0
PEAK = 0.3  # share of full scale
FULL_SCALE = 32_767
DENSITY = 0.045  # that of the Spiking Heidelberg Digits
SEED = 0


@dataclass(frozen=True)
class Served:
    """The facts of a model that a load needs."""

    name: str
    channels: int  # of the network's input
    step_s: float
    sample_rate_hz: int | None  # None: it takes no sound
    row_values: int = 0  # in a step; 0: it takes no values

    def steps_of(self, chunk_s: float) -> int:
        """Count the network steps of a chunk, at least one."""
        return max(1, round(chunk_s / self.step_s))

    @staticmethod
    def described(model: dict[str, Any]) -> Served:
        """Read the answer of ``GET /models/NAME``."""
        encoder, taken = model["encoder"], model["input"]
        encodes_values = encoder is not None and encoder.get("kind") == "values"
        takes_values = encodes_values or taken.get("kind") == "values"
        return Served(
            name=model["name"],
            channels=taken["channels"],
            step_s=taken["step_s"],
            sample_rate_hz=None if encoder is None or encodes_values else encoder["sample_rate_hz"],
            row_values=(encoder if encodes_values else taken)["channels"] if takes_values else 0,
        )


@dataclass(frozen=True)
class Load:
    """Chunks to send. A stream begins at any of them, sends one every ``period_s``, and starts over after the last."""

    content_type: str
    chunks: tuple[bytes, ...]
    period_s: float
    description: str


def choose_load(model: Served, chunk_s: float, recordings: Path | None) -> Load:
    """Make the load: recordings if requested, else sound, values or spikes, as the model takes."""
    if recordings is not None:
        if model.sample_rate_hz is None:
            raise InputError(f"model {model.name!r} takes no sound: leave out the recordings")
        return recorded(recordings, chunk_s)
    if model.sample_rate_hz is not None:
        return synthesised(model.sample_rate_hz, chunk_s)
    if model.row_values:
        return waves(model, chunk_s)
    return random_spikes(model, chunk_s)


def random_spikes(model: Served, chunk_s: float, density: float = DENSITY) -> Load:
    """Make random spikes. A channel spikes in a step with probability ``density``."""
    steps = model.steps_of(chunk_s)
    if max(steps, model.channels) > LARGEST + 1:
        raise InputError(f"{steps} steps of {model.channels} channels do not fit into packed events: take fewer steps")
    rng = np.random.default_rng(SEED)
    chunks = []
    for _ in range(DISTINCT_CHUNKS):
        count = rng.binomial(steps * model.channels, density)
        cells = np.sort(rng.choice(steps * model.channels, count, replace=False))
        chunks.append(pack_events(steps, cells // model.channels, cells % model.channels))
    described = f"random spikes, density {density:g}, {steps} steps of {model.channels} channels"
    return Load(EVENTS_TYPE, tuple(chunks), steps * model.step_s, described)


def waves(model: Served, chunk_s: float) -> Load:
    """Make values: a sine on each channel, with its own frequency and phase."""
    steps, channels = model.steps_of(chunk_s), model.row_values
    count = max(2, min(DISTINCT_CHUNKS, MOST_NUMBERS // (steps * channels)))
    rng = np.random.default_rng(SEED)
    frequency_hz, phase = rng.uniform(SLOWEST_HZ, FASTEST_HZ, channels), rng.random(channels)
    times_s = np.arange(count * steps) * model.step_s
    values = np.sin(2 * np.pi * (times_s[:, None] * frequency_hz + phase)).astype(np.float32)
    packed = [pack_values(chunk) for chunk in np.split(values, count)]
    described = f"sines of {SLOWEST_HZ:g} to {FASTEST_HZ:g} Hz, {steps} steps of {channels} values"
    return Load(packed[0][1], tuple(content for content, _ in packed), steps * model.step_s, described)


def synthesised(rate_hz: int, chunk_s: float) -> Load:
    """Make bursts of noise, about as long and as loud as syllables, with pauses."""
    times_s = np.arange(round(SOUND_S * rate_hz)) / rate_hz
    loudness = PEAK * np.sin(2 * np.pi * SYLLABLES_HZ * times_s).clip(min=0)
    noise = np.random.default_rng(SEED).uniform(-1, 1, len(times_s))
    samples = (FULL_SCALE * loudness * noise).astype(np.int16)
    return _sound(samples, rate_hz, chunk_s, f"synthesised sound at {rate_hz} Hz")


def recorded(path: Path, chunk_s: float) -> Load:
    """Read a recording, or all WAV files of a folder joined in the order of their names."""
    files = sorted(path.rglob("*.wav")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} has no .wav files: name a folder of recordings, or one recording")
    pieces, rates = [], set()
    for file in files:
        samples, rate_hz = read_sound(file)
        pieces.append(samples if samples.ndim == 1 else (FULL_SCALE * samples.mean(axis=1)).astype(np.int16))
        rates.add(rate_hz)
    if len(rates) > 1:
        raise InputError(
            f"the recordings have rates of {sorted(rates)} Hz: convert them to one rate, for example with 'sox -r 8000'"
        )
    return _sound(np.concatenate(pieces), rate_hz, chunk_s, f"{len(files)} recordings at {rate_hz} Hz")


def _sound(samples: NDArray[np.int16], rate_hz: int, chunk_s: float, description: str) -> Load:
    """Cut samples [n] into chunks. If the last chunk is too short, the first samples fill it up."""
    length = max(1, round(chunk_s * rate_hz))
    if not len(samples):
        raise InputError("the recordings are empty: give some with sound")
    count = -(-len(samples) // length)
    filled = np.resize(samples, count * length).astype("<i2").reshape(count, length)
    # from the rounded length, so that a stream is in real time
    period_s = length / rate_hz
    content_type = f"audio/pcm;encoding=pcm_s16le;rate={rate_hz}"
    return Load(content_type, tuple(chunk.tobytes() for chunk in filled), period_s, description)
