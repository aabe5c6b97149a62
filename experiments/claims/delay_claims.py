"""The questions of this project about delays, with their rules."""

from __future__ import annotations

from experiments.claims.rules import Better, Claim, Group, Side
from experiments.runs.plan import BASE
from experiments.runs.run import NeuronModel

DELAYS = "delays"
WHERE = "delays on synthesised voices (not SHD; trained at K = 4)"
NAMED: dict[NeuronModel, str] = {"hetsyn": "HetSyn", "homneu": "LIF"}


def _side(condition: str, model: NeuronModel) -> Side:
    return Side(Group(DELAYS, condition, model), label=f"{NAMED[model]}, {condition}")


def _better(*pairs: tuple[Side, Side]) -> Better:
    return Better(pairs)


DELAY_CLAIMS: tuple[Claim, ...] = (
    *(
        Claim(
            f"{NAMED[model]} with learned {path} delays is better than with fixed random ones: {WHERE}",
            "",
            _better((_side(f"{path}-learned", model), _side(f"{path}-fixed", model))),
        )
        for path in ("recurrent", "input")
        for model in NAMED
    ),
    *(
        Claim(
            f"{NAMED[model]} with fixed random {path} delays is better than without delays: {WHERE}",
            "",
            _better((_side(f"{path}-fixed", model), _side(BASE, model))),
        )
        for path in ("recurrent", "input")
        for model in NAMED
    ),
    *(
        Claim(
            f"{path.capitalize()} delays and time constants complement each other, HetSyn with learned delays is "
            f"better than without and than LIF with: {WHERE}",
            "",
            _better(
                (_side(f"{path}-learned", "hetsyn"), _side(BASE, "hetsyn")),
                (_side(f"{path}-learned", "hetsyn"), _side(f"{path}-learned", "homneu")),
            ),
        )
        for path in ("recurrent", "input")
    ),
)
