"""The runs of the experiments and of the shipped models, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from recipes.speech.networks import Shape
from recipes.speech.pool import Draws
from recipes.speech.training import Recipe

SEEDS: Final = (0, 1, 2)
SPEAKERS: Final = ("george", "jackson", "lucas", "nicolas", "theo")

DIGITS: Final = Recipe(epochs=16)
COMMAND_DRAWS: Final = Draws(digit=90, command=375)
# of equal numbers of trained values, to half a percent: a decay a synapse doubles them, and so does a second weight
COMMANDS: Final = {
    "hetsyn": (128, 64),
    "hetneu": (184, 92),
    "alif": (184, 92),
    "lif": (184, 92),
    "dh-snn": (184, 92),
    "free-bank": (128, 64),
    "gru": (100, 56),
    "cnn": (24, 36, 54, 76),
}


def _plan() -> dict[str, Recipe]:
    runs: dict[str, Recipe] = {}
    for seed in SEEDS:
        # the digits: a teacher that is not causal, then the network that is shipped
        runs[f"teacher-{seed}"] = replace(DIGITS, shape=Shape("cnn", (32, 48, 64, 96)), learning_rate=4e-3, seed=seed)
        runs[f"digits-{seed}"] = replace(DIGITS, shape=Shape("hetsyn", (256, 128)), teachers=("teacher-0",), seed=seed)
        # the commands likewise
        runs[f"commands-teacher-{seed}"] = replace(runs[f"teacher-{seed}"], model="commands", draws=COMMAND_DRAWS)
        runs[f"commands-{seed}"] = replace(
            runs[f"digits-{seed}"], model="commands", draws=COMMAND_DRAWS, teachers=("commands-teacher-0",)
        )
    for speaker in SPEAKERS:
        runs[f"without-{speaker}"] = replace(DIGITS, leave_out=speaker)
    for seed in range(5):
        for kind, hidden in COMMANDS.items():
            rate = 4e-3 if kind in ("gru", "cnn") else 5e-3
            runs[f"commands-{kind}-{seed}"] = replace(
                DIGITS, model="commands", draws=COMMAND_DRAWS, shape=Shape(kind, hidden), learning_rate=rate,
                epochs=12, seed=seed,
            )  # fmt: skip
    return runs


PLAN: Final = _plan()
