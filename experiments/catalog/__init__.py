"""The experiments themselves, one function each, and their small versions for ``--smoke``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from experiments.catalog.banks import bank_size
from experiments.catalog.delays import delays, delays_series
from experiments.catalog.grey import sequential_mnist
from experiments.catalog.images import vision_pixels, vision_rows
from experiments.catalog.kernels import fractional, pairs
from experiments.catalog.paper_tasks import delayed_match, pattern_generation
from experiments.catalog.resonance import resonance_rows, resonance_voices
from experiments.catalog.small import smoke
from experiments.catalog.streams import mnist1d, motion
from experiments.catalog.voices import shd, shd_recorded, speech
from experiments.runs.plan import Experiment

__all__ = ["EXPERIMENTS", "smoke"]

EXPERIMENTS: dict[str, Callable[[], Experiment]] = {
    "pattern-generation": pattern_generation,
    "delayed-match": delayed_match,
    "vision-rows": vision_rows,
    "vision-pixels": vision_pixels,
    "sequential-mnist": sequential_mnist,
    "bank-size": bank_size,
    "speech": speech,
    "shd": partial(shd, "shd", "synthesised", updates=300),
    "shd-recorded": shd_recorded,
    "delays": delays,
    "delays-series": delays_series,
    "motion": motion,
    "mnist1d": mnist1d,
    "fractional": fractional,
    "pairs": pairs,
    "resonance-voices": resonance_voices,
    "resonance-rows": resonance_rows,
}
