"""The questions of this project about delays, with their rules, which stand before the runs."""

from __future__ import annotations

from research.catalog.delays import LEARNED, MODELS, WIDE
from research.claims.rules import Better, Claim, Group, Side
from research.runs.names import NAMES
from research.runs.plan import BASE
from research.runs.run import NeuronModel
from research.tasks.delays import Delays

WHERE = {"delays": "delays on synthesised voices (not SHD; trained at K = 4)", "delays-series": "delays on MNIST-1D"}


def _side(experiment: str, condition: str, model: NeuronModel) -> Side:
    return Side(Group(experiment, condition, model), label=f"{NAMES[model]}, {condition}")


def _better(experiment: str, *pairs: tuple[tuple[str, NeuronModel], tuple[str, NeuronModel]]) -> Better:
    return Better(tuple((_side(experiment, *first), _side(experiment, *other)) for first, other in pairs))


def _claims(experiment: str, where: str) -> list[Claim]:
    paths = ("recurrent", "input")
    learned = [
        Claim(
            f"{NAMES[model]} with learned {path} delays is better than with fixed random ones: {where}",
            "",
            _better(experiment, ((f"{path}-learned", model), (f"{path}-fixed", model))),
        )
        for path in paths
        for model in MODELS
    ]
    fixed = [
        Claim(
            f"{NAMES[model]} with fixed random {path} delays is better than without delays: {where}",
            "",
            _better(experiment, ((f"{path}-fixed", model), (BASE, model))),
        )
        for path in paths
        for model in MODELS
    ]
    complement = [
        Claim(
            f"{path.capitalize()} delays and time constants complement each other, HetSyn with learned delays is "
            f"better than without and than LIF with: {where}",
            "",
            _better(
                experiment,
                ((f"{path}-learned", "hetsyn"), (BASE, "hetsyn")),
                ((f"{path}-learned", "hetsyn"), (f"{path}-learned", "homneu")),
            ),
        )
        for path in paths
    ]
    return learned + fixed + complement


def _against_hetsyn(path: Delays) -> list[Claim]:
    """Whether networks of the new kind are better than today's."""
    name = path.removesuffix("-learned")
    where = WHERE["delays-series"]
    return [
        Claim(
            f"HetSyn with learned {name} delays is better than HetSyn without: {where}",
            "",
            _better("delays-series", ((path, "hetsyn"), (BASE, "hetsyn"))),
        ),
        Claim(
            f"LIF with learned {name} delays and as many trained values is better than HetSyn without: {where}",
            "",
            _better("delays-series", ((f"{WIDE}-{path}", "homneu"), (BASE, "hetsyn"))),
        ),
        Claim(
            f"LIF with learned {name} delays is better than without, both with as many trained values as HetSyn: "
            f"{where}",
            "",
            _better("delays-series", ((f"{WIDE}-{path}", "homneu"), (WIDE, "homneu"))),
        ),
    ]


DELAY_CLAIMS: tuple[Claim, ...] = (
    *(claim for experiment, where in WHERE.items() for claim in _claims(experiment, where)),
    *(claim for path in LEARNED for claim in _against_hetsyn(path)),
)
