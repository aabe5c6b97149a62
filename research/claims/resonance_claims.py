"""Questions of this project about resonant neurons, with their rules; they stand before any of their runs.

All networks of an experiment have as many trained values, within 5%, and the same search.
"""

from __future__ import annotations

from research.claims.rules import Better, Claim, Group, Side
from research.runs.names import NAMES
from research.runs.plan import BASE
from research.tasks.neurons import NeuronModel

RESONANCE = ("resonance-voices", "resonance-rows")
_ALIKE = (
    "SE-adLIF neurons (arXiv 2408.07517) against HetNeu, ALIF and LIF with the same layers, and against HetSyn, with "
    "and without resonance, with as many trained values. Every model gets nine pairs of learning rate and time "
    "constant and then four longer runs around the best. All have the same surrogate. The rules of its claims stood "
    "before its runs."
)
ABOUT_RESONANCE = {
    "resonance-voices": f"Not in the paper: {_ALIKE} The set is that of `shd`, with twice its updates.",
    "resonance-rows": f"Not in the paper: {_ALIKE} The images are those of `vision-rows`, with its training.",
}


def _side(experiment: str, model: NeuronModel) -> Side:
    by_synapse = model in ("hetsyn", "hetsyn-resonance")
    return Side(Group(experiment, f"same-parameters-{model}" if by_synapse else BASE, model))


def _beats(experiment: str, own: NeuronModel, *others: NeuronModel) -> Claim:
    against = ", ".join(NAMES[other] for other in others)
    return Claim(
        f"{NAMES[own]} beats {against} with as many trained values: {experiment}",
        "",
        Better(tuple((_side(experiment, own), _side(experiment, other)) for other in others)),
    )


RESONANCE_CLAIMS: tuple[Claim, ...] = tuple(
    claim
    for experiment in RESONANCE
    for claim in (
        _beats(experiment, "se-adlif", "hetneu", "alif", "homneu"),
        _beats(experiment, "se-adlif", "hetsyn"),
        _beats(experiment, "hetsyn-resonance", "se-adlif"),
        _beats(experiment, "hetsyn-resonance", "hetsyn"),
    )
)
