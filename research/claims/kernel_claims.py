"""Questions of this project about fractional kernels and pairs, with their rules, which stand before the runs."""

from __future__ import annotations

from research.catalog.kernels import ORDERS
from research.claims.measures import DELETION_LOSS, FIGURE, MOST_DELETED, Measure
from research.claims.rules import Better, Claim, Group, Side
from research.runs.plan import BASE
from research.tasks.kernels import LEARNED


def _named(order: str) -> str:
    return "learned order" if order == LEARNED else f"order {order}"


def _order(order: str, measure: Measure = FIGURE) -> Side:
    condition = BASE if order == "1" else f"order-{order}"
    label = _named(order) if measure == FIGURE else f"{_named(order)}, {measure.name}"
    return Side(Group("fractional", condition, "hetneu"), measure, label)


_LEARNED_ROWS = Side(Group("vision-rows", f"order-{LEARNED}", "hetneu"), label="learned order")

KERNEL_CLAIMS: tuple[Claim, ...] = (
    *(
        Claim(
            f"Fractional kernels of {_named(order)} are better than exponentials with a searched time constant",
            "",
            Better(((_order(order), _order("1")),)),
        )
        for order in ORDERS[1:]
    ),
    Claim(
        "Fractional kernels of learned order lose less from 32 to 64% of deleted spikes than exponentials, and are "
        "more accurate after",
        "",
        Better(tuple((_order(LEARNED, measure), _order("1", measure)) for measure in (DELETION_LOSS, MOST_DELETED))),
    ),
    *(
        Claim(
            f"Pairs are better than single exponentials with about as many trained values: {experiment}",
            "",
            Better(
                (
                    (
                        Side(Group(experiment, "pair", "hetsyn"), label="pairs"),
                        Side(Group(experiment, BASE, "hetsyn"), label="single exponentials"),
                    ),
                )
            ),
        )
        for experiment in ("pairs", "vision-rows")
    ),
    Claim(
        "HetNeu with fractional kernels of learned order is better than HetSyn with as many neurons: vision-rows",
        "",
        Better(((_LEARNED_ROWS, Side(Group("vision-rows", BASE, "hetsyn"))),)),
    ),
    # the other side is of `resonance-rows`: same images, training and sizes; nine first candidates in place of six
    Claim(
        "HetNeu with fractional kernels of learned order is better than with exponentials: vision-rows",
        "",
        Better(((_LEARNED_ROWS, Side(Group("resonance-rows", BASE, "hetneu"), label="exponentials")),)),
    ),
    Claim(
        "HetNeu with fractional kernels of learned order is better than HetSyn with as many trained values: "
        "vision-rows",
        "",
        Better(((_LEARNED_ROWS, Side(Group("resonance-rows", "same-parameters-hetsyn", "hetsyn"))),)),
    ),
)
