"""The experiments themselves, one function each, and their small versions for ``--smoke``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from research.catalog.banks import bank_size
from research.catalog.delays import delays_series
from research.catalog.equal import equal_clothes, equal_cue, equal_motion, equal_series, equal_trace
from research.catalog.images import vision_rows
from research.catalog.paper_tasks import delayed_match, pattern_generation
from research.catalog.resonance import resonance_rows
from research.catalog.small import smoke
from research.catalog.streams import mnist1d, motion
from research.catalog.voices import shd, shd_recorded
from research.runs.plan import Experiment

__all__ = ["EARLIER", "EXPERIMENTS", "smoke"]

EARLIER = ("delays", "fractional", "pairs")  # whose results are kept in results/earlier.json.gz
EARLIER_COMMIT = "890ab00"  # of this repository, which ran them

EXPERIMENTS: dict[str, Callable[[], Experiment]] = {
    "pattern-generation": pattern_generation,
    "delayed-match": delayed_match,
    "vision-rows": vision_rows,
    "bank-size": bank_size,
    "shd": partial(shd, "shd", "synthesised", updates=300),
    "shd-recorded": shd_recorded,
    "delays-series": delays_series,
    "motion": motion,
    "mnist1d": mnist1d,
    "resonance-rows": resonance_rows,
    "equal-trace": equal_trace,
    "equal-cue": equal_cue,
    "equal-series": equal_series,
    "equal-clothes": equal_clothes,
    "equal-motion": equal_motion,
}
