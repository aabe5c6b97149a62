"""Questions of this project about resonant neurons, with their rules; they stand before any of their runs.

All networks of an experiment have as many trained values, within 5%, and the same search.
"""

from __future__ import annotations

from research.claims.rules import Better, Claim, Group, Side
from research.runs.names import NAMES
from research.runs.plan import BASE
from research.tasks.neurons import NeuronModel

ROWS = "resonance-rows"
ABOUT_RESONANCE = (
    "Not in the paper: SE-adLIF neurons (arXiv 2408.07517) against HetNeu, ALIF and LIF with the same layers, and "
    "against HetSyn, with and without resonance, with as many trained values. Every model gets nine pairs of learning "
    "rate and time constant and then four longer runs around the best. All have the same surrogate. The rules of its "
    "claims stood before its runs. The images are those of `vision-rows`, with its training."
)


def _side(model: NeuronModel) -> Side:
    by_synapse = model in ("hetsyn", "hetsyn-resonance")
    return Side(Group(ROWS, f"same-parameters-{model}" if by_synapse else BASE, model))


def _beats(own: NeuronModel, *others: NeuronModel) -> Claim:
    against = ", ".join(NAMES[other] for other in others)
    return Claim(
        f"{NAMES[own]} beats {against} with as many trained values: {ROWS}",
        "",
        Better(tuple((_side(own), _side(other)) for other in others)),
    )


RESONANCE_CLAIMS: tuple[Claim, ...] = (
    _beats("se-adlif", "hetneu", "alif", "homneu"),
    _beats("se-adlif", "hetsyn"),
    _beats("hetsyn-resonance", "se-adlif"),
    _beats("hetsyn-resonance", "hetsyn"),
)
