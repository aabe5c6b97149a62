"""Made-up words: recordings as arrays, and as a folder of wav files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hetsyn_model import DecisionSpec, NetworkSpec, NeuronSpec
from hetsyn_model.encoders.encoder import EncoderSpec
from hetsyn_model.training.config import TrainSpec
from hetsyn_model.training.datasets.data import Recording
from hetsyn_model.training.encoding.augment import AugmentSpec
from tests.support.data.wav import wav

ENCODER = EncoderSpec(bands=8, levels=4, spacing_db=6.0)
NETWORK = NetworkSpec(
    channels=ENCODER.channels,
    hidden=(24,),
    outputs=3,
    step_s=ENCODER.step_s,
    neuron=NeuronSpec(tau_init_steps=(2, 10), tau_reset_steps=10),
    decision=DecisionSpec(),
)
TRAIN = TrainSpec(
    epochs=3,
    batch=8,
    learning_rate=1e-2,
    bank_size=4,
    tail_steps=4,
    served_tail_steps=4,
    average=0.9,
)
AUGMENT = AugmentSpec(noise_db=(-60, -30), mask_bands=1, mask_steps=1, shift_bands=0)


def words(count: int, seed: int) -> list[Recording]:
    """Three 'words' that differ in pitch."""
    rng = np.random.default_rng(seed)
    n = np.arange(1600)
    made = []
    for take in range(count):
        label = take % 3
        hz = (400, 1100, 2600)[label] * rng.uniform(0.95, 1.05)
        audio = 0.3 * np.hanning(n.size) * np.sin(2 * np.pi * hz * n / 8000) + 0.001 * rng.normal(size=n.size)
        made.append(Recording(audio.astype(np.float32), label, "synth", take))
    return made


def write_words(folder: Path, speakers: tuple[str, ...]) -> Path:
    """Digits as tones, ``digit_speaker_take.wav``: takes 0 (validation) and 1 of each speaker."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for speaker in speakers:
        for digit in range(10):
            for take in (0, 1):
                n = np.arange(1200)
                tone = np.sin(2 * np.pi * (250 + 330 * digit) * n / 8000) * np.hanning(n.size)
                pcm = (12000 * tone + 30 * rng.normal(size=n.size)).astype("<i2")
                (folder / f"{digit}_{speaker}_{take}.wav").write_bytes(wav(pcm.tobytes()))
    return folder
