"""Small data sets of three classes that anything learns: tones, spikes and series, as arrays and as files."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from tests.support.data.wav import wav

CLASSES = ("low", "middle", "high")
QUICK = """
[network]
hidden = [24]
[training]
epochs = 15
batch = 8
learning_rate = 1e-2
average = 0.8
"""


def write_pcm(path: Path, samples: NDArray[np.float64], rate_hz: int = 8000) -> None:
    """A wav file of 16-bit PCM from samples in [-1, 1]."""
    path.write_bytes(wav((32000 * samples).astype("<i2").tobytes(), rate_hz))


def tone_folder(folder: Path, takes: int = 8, rate_hz: int = 8000) -> Path:
    """``class/TAKE.wav``: tones of three pitches."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for take in range(takes):
            n = np.arange(rate_hz // 6)
            hz = (300, 900, 2500)[label] * rng.uniform(0.95, 1.05)
            sound = 0.4 * np.hanning(n.size) * np.sin(2 * np.pi * hz * n / rate_hz)
            write_pcm(folder / name / f"{take}.wav", sound + 0.001 * rng.normal(size=n.size), rate_hz)
    return folder


def spike_arrays(count: int = 36, seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Spikes [count, 25, 12] whose class is the third of the channels that fires most, and labels [count]."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    rate = np.full((count, 1, 12), 0.05)
    for index, label in enumerate(labels):
        rate[index, 0, 4 * label : 4 * label + 4] = 0.4
    return rng.random((count, 25, 12)) < rate, labels


def series_arrays(count: int = 36, seed: int = 0) -> tuple[list[NDArray[np.float32]], NDArray[np.int64]]:
    """Series of two channels, 30 to 40 steps, whose class is the speed of a swing, and labels [count]."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    series = []
    for label in labels:
        t = np.arange(int(rng.integers(30, 41)))
        angle = 2 * np.pi * (0.02, 0.06, 0.2)[label] * t + rng.uniform(0, 6)
        values = np.stack([20 + 3 * np.sin(angle), 5 * np.cos(angle)], 1) + rng.normal(0, 0.1, (t.size, 2))
        series.append(values.astype(np.float32))
    return series, labels


def write_shd_form(path: Path, count: int = 36, *, keys: bool = True) -> Path:
    """:func:`spike_arrays` as HDF5 in SHD's form; a step is 4 ms."""
    spikes, labels = spike_arrays(count)
    with h5py.File(path, "w") as file:
        rows = [np.nonzero(each) for each in spikes]
        for name, dtype in (("times", "f2"), ("units", "u2")):
            data = file.create_dataset(f"spikes/{name}", (count,), dtype=h5py.vlen_dtype(np.dtype(dtype)))
            for index, (step, unit) in enumerate(rows):
                data[index] = ((step + 0.5) * 4e-3 if name == "times" else unit).astype(dtype)
        file["labels"] = labels.astype("u2")
        file["extra/speaker"] = (np.arange(count) // 3 % 4).astype("u2")
        if keys:
            file["extra/keys"] = np.array([name.encode() for name in CLASSES])
    return path


def write_series_csv(path: Path, count: int = 36) -> Path:
    """:func:`series_arrays` as CSV, with a column of groups."""
    series, labels = series_arrays(count)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["series", "label", "group", "x", "y"])
        for index, (values, label) in enumerate(zip(series, labels, strict=True)):
            for x, y in values:
                writer.writerow([f"s{index}", CLASSES[label], f"p{index // 3 % 4}", f"{x:.4f}", f"{y:.4f}"])
    return path
