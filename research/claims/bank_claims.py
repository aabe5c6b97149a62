"""Questions about the timescale bank: what a network that was trained through a bank is in the exact form."""

from __future__ import annotations

from collections.abc import Sequence

from research.catalog.banks import DECAY_FACTORS, condition_name
from research.claims.measures import EXACT, EXACT_WHOLE, FIGURE, bank_figure
from research.claims.rules import Better, Claim, Same, best, hetsyn
from research.runs.plan import BASE

SIZES = "bank-size"
Named = Sequence[tuple[str, str]]  # experiments with their names in the report


def _same(experiment: str, condition: str) -> Same:
    return Same((hetsyn(experiment, condition, FIGURE, "bank"), hetsyn(experiment, condition, EXACT_WHOLE, "exact")), 1)


def _worse_exact(condition: str) -> Better:
    return Better(
        ((hetsyn(SIZES, condition, FIGURE, "as trained"), hetsyn(SIZES, condition, EXACT_WHOLE, "exact")),),
    )


def bank_claims(judged: Named, trained: Named, refitted: Named) -> tuple[Claim, ...]:
    """The claims.

    Args:
        judged: whose models are compared in the exact form.
        trained: that train through a bank of 8.
        refitted: that train through a smaller bank, and are refitted with 8.
    """
    return (
        *(
            Claim(
                f"HetSyn, judged in the exact form, is the best of the four: {name}",
                "",
                best(experiment, BASE, measure=EXACT),
            )
            for experiment, name in judged
        ),
        *(
            Claim(
                f"A network trained through a bank of 8 is as good in the exact form: {name}",
                "",
                _same(experiment, BASE),
            )
            for experiment, name in trained
        ),
        *(
            Claim(
                f"A network trained through a bank of 8 is as good in the exact form, with the decays' learning rate "
                f"x {factor:g}: {SIZES}",
                "",
                _same(SIZES, condition_name(8, factor)),
            )
            for factor in DECAY_FACTORS
        ),
        *(
            Claim(
                f"A network trained through a bank of 4 is worse in the exact form, with the decays' learning rate "
                f"x {factor:g}: {SIZES}",
                "",
                _worse_exact(condition_name(4, factor)),
            )
            for factor in DECAY_FACTORS
        ),
        *(
            Claim(
                f"A bank of 8 decays is as good as a current a synapse: {name}",
                "",
                Same(
                    (
                        hetsyn(experiment, BASE, bank_figure(8), "bank"),
                        hetsyn(experiment, BASE, bank_figure(None), "exact"),
                    ),
                    margin=1,
                ),
            )
            for experiment, name in refitted
        ),
    )
