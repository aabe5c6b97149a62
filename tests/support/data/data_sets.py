"""Small files in the exact form of public data sets: SHD and SSC, Speech Commands, MNIST."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from tests.support.data.data import write_pcm


def write_heidelberg(path: Path, labels: Sequence[int], *, speakers: Sequence[int] = (), seed: int = 0) -> Path:
    """A file as SHD and SSC have it: times in float16, units of 700 in uint16; SSC has no ``extra``."""
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        for name, kind in (("times", "f2"), ("units", "u2")):
            file.create_dataset(f"spikes/{name}", (len(labels),), dtype=h5py.vlen_dtype(np.dtype(kind)))
        for index, label in enumerate(labels):
            units = np.concatenate([rng.integers(20 * label, 20 * label + 20, 40), rng.integers(0, 700, 20)])
            file["spikes/times"][index] = np.sort(rng.uniform(0, 0.9, units.size)).astype("f2")
            file["spikes/units"][index] = units.astype("u2")
        file["labels"] = np.array(labels, "u2")
        if speakers:
            file["extra/speaker"] = np.array(speakers, "u2")
            file["extra/keys"] = np.array([f"word-{n}".encode() for n in range(max(labels) + 1)])
    return path


def write_ssc(folder: Path, classes: int = 35, each: int = 2) -> Path:
    """``ssc_train.h5``, ``ssc_valid.h5`` and ``ssc_test.h5``."""
    folder.mkdir()
    for seed, (part, count) in enumerate({"train": 2 * each, "valid": each, "test": each}.items()):
        write_heidelberg(folder / f"ssc_{part}.h5", [n % classes for n in range(classes * count)], seed=seed)
    return folder


def write_speech_commands(folder: Path, words: Sequence[str] = ("down", "up"), speakers: int = 6) -> Path:
    """``word/SPEAKER_nohash_N.wav`` at 16 kHz, the two lists, and what else the archive has."""
    validation: list[str] = []
    testing: list[str] = []
    for label, word in enumerate(words):
        (folder / word).mkdir(parents=True)
        for speaker in range(speakers):
            name = f"{word}/{speaker:08x}_nohash_0.wav"
            time = np.arange(4000) / 16000
            write_pcm(folder / name, 0.3 * np.sin(2 * np.pi * (400 + 600 * label + 20 * speaker) * time), 16000)
            if speaker >= speakers - 2:
                (validation if speaker == speakers - 1 else testing).append(name)
    (folder / "_background_noise_").mkdir()
    write_pcm(folder / "_background_noise_/pink_noise.wav", np.zeros(16000), 16000)
    (folder / "LICENSE").write_text("CC BY 4.0")
    # the archive's lists name words that this copy may not have
    (folder / "validation_list.txt").write_text("\n".join([*validation, "bed/0a7c2a8d_nohash_0.wav"]) + "\n")
    (folder / "testing_list.txt").write_text("\n".join(testing) + "\n")
    return folder


def idx(array: NDArray[np.uint8]) -> bytes:
    """An array as IDX: type and axes, sizes in big endian, values."""
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_mnist(folder: Path, train: int = 60, test: int = 20, *, packed: bool = True, mark: str = "-") -> Path:
    """MNIST's four files with images whose class is the place of a bar."""
    folder.mkdir()
    for prefix, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[:, 2 * label + 2 : 2 * label + 6] = 255
        for name, array in ((f"images{mark}idx3", images), (f"labels{mark}idx1", labels)):
            content = idx(array)
            path = folder / f"{prefix}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return folder
