"""Streams of spikes or values, with or without labels, that verify a network before its export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from export.folder import ExportError
from export.parity import Streams
from hetsyn_model.encoders.encoder import EncoderSpec
from hetsyn_model.spec import InputKind

SHAPES = {"spikes": "spikes [stream, step, channel] of 0 and 1", "values": "values [stream, step, channel]"}


@dataclass(frozen=True)
class Evaluation:
    """Streams that verify and judge a network.

    Attributes:
        streams: spikes or values to run through every implementation.
        labels: int64 [stream], their classes; None without.

    Raises:
        ExportError: there is no stream, so nothing would be compared.
    """

    streams: Streams
    labels: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if not len(self.streams.steps):
            raise ExportError("no stream verifies the network: give one example or more")


def seeded_streams(channels: int, density: float, *, streams: int, steps: int, seed: int = 0) -> Streams:
    """Draw spikes of one density.

    Args:
        density: probability of a channel's spike in a step.
        streams: number of streams.
        steps: length of the longest stream; others have at least half as many.

    Returns:
        Streams of float32 [streams, steps, channels].
    """
    rng = np.random.default_rng(seed)
    spikes = (rng.random((streams, steps, channels)) < density).astype(np.float32)
    return Streams(torch.from_numpy(spikes), torch.from_numpy(rng.integers(steps // 2, steps + 1, streams)))


def seeded_values(channels: int, *, streams: int, steps: int, seed: int = 0) -> Streams:
    """Draw values of the standard normal distribution, in streams of ``steps`` or at least half as many steps.

    Args:
        streams: number of streams.
    """
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(streams, steps, channels)).astype(np.float32)
    return Streams(torch.from_numpy(values), torch.from_numpy(rng.integers(steps // 2, steps + 1, streams)))


def noise_and_silence(encoder: EncoderSpec, duration_s: float = 1.0) -> torch.Tensor:
    """Make audio, float32 [4, whole steps]: loud and faint noise, noise that begins late, and silence."""
    steps = max(1, round(duration_s * encoder.sample_rate_hz / encoder.step_samples))
    noise = np.random.default_rng(0).normal(size=(4, steps * encoder.step_samples))
    noise *= np.array([[0.2], [0.002], [0.05], [0.0]])
    noise[2, : noise.shape[1] // 2] = 0.0
    return torch.from_numpy(noise.astype(np.float32))


def padded(spikes: Sequence[torch.Tensor]) -> Streams:
    """Pad streams of different lengths, each [steps, channels], to one tensor."""
    steps = torch.tensor([len(stream) for stream in spikes], dtype=torch.int64)
    return Streams(torch.nn.utils.rnn.pad_sequence(list(spikes), batch_first=True).float(), steps)


def evaluation_of(examples: object, channels: int, outputs: int, input_kind: InputKind = "spikes") -> Evaluation:
    """Convert and check a user's examples.

    Args:
        examples: an Evaluation; spikes as a tensor or array [stream, step, channel] of 0 and 1; the pair (spikes,
            labels); or a mapping, as ``numpy.load`` gives, of ``spikes`` and, optionally, ``labels`` [stream] and
            ``steps`` [stream]. None: seeded spikes, without labels. A network of values has ``values`` in place of
            ``spikes``.

    Raises:
        ExportError: something else, or other sizes.
    """
    if examples is None:
        if input_kind == "values":
            return Evaluation(seeded_values(channels, streams=8, steps=60))
        return Evaluation(seeded_streams(channels, 0.1, streams=8, steps=60))
    if isinstance(examples, Evaluation):
        parts: Mapping[str, Any] = {
            input_kind: examples.streams.spikes,
            "steps": examples.streams.steps,
            "labels": examples.labels,
        }
    elif isinstance(examples, Mapping):
        parts = examples
    elif isinstance(examples, tuple) and len(examples) == 2:
        parts = {input_kind: examples[0], "labels": examples[1]}
    else:
        parts = {input_kind: examples}
    shape = SHAPES[input_kind]
    if input_kind not in parts:
        named = ", ".join(map(str, parts)) or "nothing"
        raise ExportError(f"examples have {named}: name the array {input_kind}, {shape}")
    spikes = _array(parts[input_kind], input_kind)
    if spikes.ndim != 3 or 0 in spikes.shape or spikes.shape[2] != channels:
        raise ExportError(f"{input_kind} of shape {spikes.shape}: give {shape}, with the network's {channels} channels")
    if input_kind == "values" and not np.isfinite(spikes).all():
        raise ExportError("values have numbers that are not finite, or beyond float32: take these streams out")
    if input_kind == "spikes" and not np.isin(spikes, (0, 1)).all():
        raise ExportError("spikes have other values than 0 and 1: give examples of what the network is going to get")
    count, longest = spikes.shape[:2]
    steps = _whole(parts.get("steps"), "steps", count, 1, longest)
    labels = _whole(parts.get("labels"), "labels", count, 0, outputs - 1)
    streams = Streams(
        torch.from_numpy(spikes.copy()),
        torch.full((count,), longest) if steps is None else torch.from_numpy(steps),
    )
    return Evaluation(streams, None if labels is None else torch.from_numpy(labels))


def read_examples(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file.

    Raises:
        ExportError: it cannot be read, or is no ``.npz`` file.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            return dict(arrays)
    except OSError as error:
        raise ExportError(f"{path}: the examples cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError, BadZipFile, AttributeError) as error:
        raise ExportError(f"{path}: not an .npz file of arrays: write it with numpy.savez(FILE, spikes=...)") from error


def _array(values: object, name: str) -> NDArray[Any]:
    try:
        array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
        if array.dtype.kind == "c":  # numpy would drop the imaginary part
            raise TypeError("complex numbers")
        with np.errstate(over="ignore"):  # an overflow gives infinity, which is refused
            return array.astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        raise ExportError(f"{name} are no array of numbers: give {SHAPES[name]}") from error


def _whole(values: object, name: str, count: int, least: int, most: int) -> NDArray[np.int64] | None:
    """Check one whole number a stream; None if there are none."""
    if values is None:
        return None
    try:
        numbers = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    except ValueError as error:
        raise ExportError(f"{name} are of different lengths: give one whole number a stream, {count}") from error
    if numbers.shape != (count,) or numbers.dtype.kind not in "iu":
        raise ExportError(f"{name} of shape {numbers.shape}, {numbers.dtype}: give one whole number a stream, {count}")
    if numbers.min() < least or numbers.max() > most:
        raise ExportError(f"{name} are from {numbers.min()} to {numbers.max()}: give numbers from {least} to {most}")
    return numbers.astype(np.int64)
