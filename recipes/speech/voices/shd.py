"""Synthesised digits in SHD's form: 700 channels of spikes, two HDF5 files with different speakers.

The project's own encoder makes the spikes. PyPI's ``lauscher``, the cochlea model that SHD itself was made with, took
45 s of processor time for a word of 0.37 s at 16 kHz, the encoder 3 ms. So a channel is a threshold of a Mel band here,
crossed upwards or downwards, and not a place on the basilar membrane; a word is some 1,300 spikes instead of 8,000.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from hetsyn_model.encoder import Encoder, EncoderSpec
from hetsyn_model.training.augment import encode_batch
from hetsyn_model.training.data import DataError, Recording, read_folder
from recipes.speech.voices.digits import KEYS, LANGUAGES, is_held_out, person
from recipes.speech.voices.shd_file import SHD_BIN_S, SHD_STEPS, ShdSample, write_shd

TRAIN_FILE: Final = "shd_train.h5"
TEST_FILE: Final = "shd_test.h5"
# 35 bands, 10 levels, two directions: 700; a step is one of SHD's bins
ENCODER: Final = EncoderSpec(
    step_samples=32,
    window_samples=200,
    bands=35,
    levels=10,
    spacing_db=3.0,
    top_db=-9.0,
    emphasis_db_per_octave=4.0,
    contrast=0.5,
)
TAIL_STEPS: Final = 10  # a word's last spikes fall into the silence behind it


@dataclass(frozen=True)
class ShdReport:
    """The files that were written.

    Attributes:
        recordings: number in each file, by its name.
        speakers: number in each file, by its name.
        spikes: mean number of a recording.
    """

    recordings: dict[str, int]
    speakers: dict[str, int]
    spikes: float


def encode(encoder: Encoder, recordings: Sequence[Recording], speakers: Sequence[int]) -> list[ShdSample]:
    """Recordings, labelled 0 to 19, as SHD has its own: unit = the encoder's channel, time = the middle of its step."""
    samples = []
    for start in range(0, len(recordings), 64):
        some = recordings[start : start + 64]
        encoded = encode_batch(encoder, some, TAIL_STEPS)
        dense = encoded.events.dense().numpy() > 0
        for stream, recording, speaker in zip(dense, some, speakers[start : start + 64], strict=True):
            steps, units = stream[: SHD_STEPS - 1].nonzero()
            # the middle: float16, which SHD stores, is coarser than the bins' edges
            samples.append(ShdSample((steps + 0.5) * SHD_BIN_S, units.astype(np.int64), recording.label, speaker))
    return samples


def write_files(corpus: Path, out: Path) -> ShdReport:
    """``shd_train.h5`` and ``shd_test.h5`` of the corpus that :func:`digits.speak` wrote.

    Raises:
        DataError: there is no such corpus, or too few speakers to hold one out.
    """
    recordings = [
        replace(recording, label=recording.label + 10 * index)
        for index, language in enumerate(LANGUAGES)
        for recording in read_folder(corpus / language, tuple("0123456789"), ENCODER.sample_rate_hz)
    ]
    held_out = is_held_out([person(recording.speaker) for recording in recordings])
    voices = sorted(held_out)
    if not any(held_out.values()):
        raise DataError(f"{corpus}: {len(voices)} speaker(s), too few to hold one out: install another engine")
    encoder = Encoder(ENCODER)
    source = json.dumps({"made_by": "python -m recipes.speech shd-voices", "encoder": ENCODER.to_dict()})
    counts, people, spikes = {}, {}, 0
    for name, is_test in ((TRAIN_FILE, False), (TEST_FILE, True)):
        mine = [recording for recording in recordings if held_out[person(recording.speaker)] == is_test]
        numbers = [voices.index(person(recording.speaker)) for recording in mine]
        samples = encode(encoder, mine, numbers)
        write_shd(out / name, samples, KEYS, voices, source)
        counts[name], people[name] = len(mine), len(set(numbers))
        spikes += sum(sample.units.size for sample in samples)
    return ShdReport(counts, people, spikes / len(recordings))
