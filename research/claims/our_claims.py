"""The questions of this project with their rules; ``differs`` is the figure or table of the paper that one is after."""

from __future__ import annotations

import math

from research.claims.bank_claims import bank_claims
from research.claims.delay_claims import DELAY_CLAIMS
from research.claims.kernel_claims import KERNEL_CLAIMS
from research.claims.measures import (
    CUE_OVER_NOISE,
    DELETION_LOSS,
    LONG_RESET,
    MEDIANS_FALL,
    TAIL,
    curve_mean,
    form_figure,
    updates_until,
    weight_figure,
)
from research.claims.paper_claims import INITIAL_TAU_MS, NOISE_HZ
from research.claims.resonance_claims import RESONANCE_CLAIMS
from research.claims.rules import (
    OTHERS,
    SAME_FACTOR,
    Better,
    Beyond,
    Claim,
    Group,
    Same,
    Side,
    best,
    hetsyn,
    kind_of,
)
from research.claims.stream_claims import STREAM_CLAIMS
from research.runs.plan import BASE, PAPER
from research.runs.run import NeuronModel

PG, DM, ROWS, VOICES = "pattern-generation", "delayed-match", "vision-rows", "shd"
VOICES_NAMED = "shd (synthesised voices, not SHD; trained at K = 4)"


def _named(experiment: str) -> str:
    return VOICES_NAMED if experiment == VOICES else experiment


def _searched(experiment: str, condition: str, recurrent: bool, after: str = "") -> Claim:
    where = f"{_named(experiment)}, {kind_of(recurrent)}, {'equal search' if condition == BASE else condition}"
    if (experiment, condition) == (DM, BASE):
        where += ", 20 neurons"
    return Claim(f"HetSyn is the best of the four: {where}", "", best(experiment, condition, recurrent), after)


def _matched(experiment: str, condition: str) -> Claim:
    what = "trained values" if condition == "same-parameters" else "bytes of state"
    return Claim(
        f"HetSyn beats HetNeu with as many {what}: {experiment}",
        "",
        Better(((hetsyn(experiment, condition), Side(Group(experiment, BASE, "hetneu"))),)),
    )


def _robust(experiment: str, curve: str, place: str) -> Claim:
    what = {"deletion": "deleted spikes", "warp": "warped time"}[curve]
    return Claim(
        f"HetSyn is the most accurate with {what} at test time: {_named(experiment)}",
        "",
        best(experiment, BASE, measure=curve_mean(curve)),
        place,
    )


def _growth(model: NeuronModel) -> Side:
    """The factor by which a model's error grows from 1 Hz of noise to 4 Hz."""
    return Side(Group(PG, NOISE_HZ[4], model), since=Group(PG, NOISE_HZ[1], model))


OUR_CLAIMS: tuple[Claim, ...] = (
    _searched(PG, BASE, True, "2F"),
    Claim(
        "Pattern generation: the others' error grows by a larger factor from 1 Hz of noise to 4 Hz",
        "",
        Better(tuple((_growth("hetsyn"), _growth(model)) for model in OTHERS)),
        "2F, there as it is",
    ),
    Claim("Delayed match: HetSyn solves it", "", Beyond(hetsyn(DM, PAPER), 0.99), "3B, there feedforward"),
    _searched(DM, PAPER, True, "3B, there feedforward"),
    Claim(
        "Delayed match, recurrent: HetSyn learns fastest",
        "",
        best(DM, PAPER, measure=updates_until(0.95)),
        "3B, there feedforward",
    ),
    *(_searched(DM, BASE, recurrent) for recurrent in (True, False)),
    *(
        Claim(
            f"Delayed match, initial {ms} ms: cue synapses end longer than noise synapses",
            "",
            Beyond(hetsyn(DM, condition, CUE_OVER_NOISE), 1.0),
            "Table 4, there each against its start",
        )
        for ms, condition in ({40: PAPER} | INITIAL_TAU_MS).items()
    ),
    Claim(
        "Delayed match, initial 40 ms: resetting the synapses above 700 ms costs accuracy",
        "",
        Better(((hetsyn(DM, PAPER, label="trained"), hetsyn(DM, PAPER, LONG_RESET, "reset")),)),
        "appendix G, there 100 to 400 ms",
    ),
    *(
        _robust(experiment, curve, place)
        for experiment in (VOICES, ROWS)
        for curve, place in (("deletion", "4B"), ("warp", "4E, F"))
    ),
    *(
        Claim(
            f"HetSyn loses the least from 32 to 64% of deleted spikes: {_named(experiment)}",
            "",
            best(experiment, BASE, measure=DELETION_LOSS),
            "4C",
        )
        for experiment in (VOICES, ROWS)
    ),
    *(
        Claim(
            f"The median time constant falls in all layers: {_named(experiment)}",
            "",
            Beyond(hetsyn(experiment, BASE, MEDIANS_FALL), 1.0),
            "4D, A5",
        )
        for experiment in (PG, DM, ROWS, VOICES)
    ),
    Claim(
        f"At most 2.0% of the time constants end above 20 steps: {VOICES_NAMED}",
        "",
        Beyond(hetsyn(VOICES, BASE, TAIL), 0.02),
        "4D",
    ),
    _searched(VOICES, BASE, True, "4A"),
    _searched(ROWS, BASE, True),
    *(_matched(experiment, what) for what in ("same-parameters", "same-state") for experiment in (PG, ROWS)),
    *bank_claims(
        judged=((VOICES, VOICES_NAMED), (ROWS, ROWS)),
        trained=((ROWS, ROWS),),
        refitted=((DM, DM), (VOICES, VOICES_NAMED)),
    ),
    *(
        Claim(
            f"HetSyn, trained with a bank of 12 decays, is as good in the exact form: {what}",
            "",
            Same(
                (
                    hetsyn(DM, condition, form_figure("exact"), "exact"),
                    hetsyn(DM, condition, form_figure("bank"), "bank"),
                ),
                1,
            ),
        )
        for condition, what in (
            (f"{PAPER}-hidden-5", "delayed match, 5 neurons"),
            (f"{PAPER}-hidden-20", "delayed match, 20 neurons"),
            (PAPER, "delayed match, 100 neurons"),
        )
    ),
    Claim(
        "HetSyn, trained with a bank of 12 decays, is as good in the exact form: pattern generation",
        "",
        Same(
            (
                hetsyn(PG, PAPER, form_figure("exact", "error"), "exact"),
                hetsyn(PG, PAPER, form_figure("bank", "error"), "bank"),
            ),
            math.log(SAME_FACTOR),
        ),
    ),
    *(
        Claim(
            f"The bank's weights fit in 8 bits: {_named(experiment)}",
            "",
            Same(
                (
                    hetsyn(experiment, BASE, weight_figure("int8"), "int8"),
                    hetsyn(experiment, BASE, weight_figure("float32"), "float32"),
                ),
                margin=1,
            ),
        )
        for experiment in (DM, ROWS, VOICES)
    ),
    *STREAM_CLAIMS,
    *RESONANCE_CLAIMS,
    *KERNEL_CLAIMS,
    *DELAY_CLAIMS,
)
