"""The experiments themselves, one function each, and their small versions for ``--smoke``."""

from __future__ import annotations

from collections.abc import Callable

from research.catalog.equal import equal_clothes, equal_cue, equal_motion, equal_series, equal_trace
from research.catalog.paper_tasks import delayed_match, pattern_generation
from research.catalog.small import smoke
from research.catalog.spoken import shd_recorded
from research.runs.plan import Experiment

__all__ = ["EARLIER", "EXPERIMENTS", "smoke"]

# experiments that are over, with the commit of this repository that ran them; ``results/`` has their runs
EARLIER = dict.fromkeys(("delays", "fractional", "pairs"), "890ab00") | dict.fromkeys(
    ("vision-rows", "bank-size", "shd", "delays-series", "motion", "mnist1d", "resonance-rows"), "cb8245b2"
)

EXPERIMENTS: dict[str, Callable[[], Experiment]] = {
    "pattern-generation": pattern_generation,
    "delayed-match": delayed_match,
    "shd-recorded": shd_recorded,
    "equal-trace": equal_trace,
    "equal-cue": equal_cue,
    "equal-series": equal_series,
    "equal-clothes": equal_clothes,
    "equal-motion": equal_motion,
}
