"""The questions of this project with their rules; ``differs`` is the figure or table of the paper that one is after."""

from __future__ import annotations

from experiments.measures import (
    CUE_OVER_NOISE,
    DELETION_LOSS,
    MEDIANS_FALL,
    TAIL,
    bank_figure,
    curve_mean,
    lesion_figure,
    updates_until,
    weight_figure,
)
from experiments.plan import BASE, PAPER
from experiments.rules import Better, Beyond, Claim, Group, Same, Side, best, hetsyn, kind_of, most_successes, ordered
from experiments.stream_claims import STREAM_CLAIMS

PG, DM, ROWS, PIXELS, SPEECH = "pattern-generation", "delayed-match", "vision-rows", "vision-pixels", "speech"
VOICES = "shd"
VOICES_NAMED = "shd (synthesised voices, not SHD)"


def _named(experiment: str) -> str:
    return VOICES_NAMED if experiment == VOICES else experiment


def _searched(experiment: str, condition: str, recurrent: bool, after: str = "") -> Claim:
    where = f"{_named(experiment)}, {kind_of(recurrent)}, {'equal search' if condition == BASE else condition}"
    return Claim(f"HetSyn is the best of the four: {where}", "", best(experiment, condition, recurrent), after)


def _matched(experiment: str, condition: str) -> Claim:
    what = "trained values" if condition == "same-parameters" else "bytes of state"
    return Claim(
        f"HetSyn beats HetNeu with as many {what}: {experiment}",
        "",
        Better(((hetsyn(experiment, condition), Side(Group(experiment, BASE, "hetneu"))),)),
    )


def _robust(experiment: str, curve: str, place: str) -> Claim:
    what = {"deletion": "deleted spikes", "warp": "warped time", "noise": "louder and quieter noise channels"}[curve]
    return Claim(
        f"HetSyn is the most accurate with {what} at test time: {_named(experiment)}",
        "",
        best(experiment, BASE, measure=curve_mean(curve)),
        place,
    )


OUR_CLAIMS: tuple[Claim, ...] = (
    *(_searched(PG, BASE, recurrent, "2D") for recurrent in (True, False)),
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
            f"Delayed match, 5 neurons, {kind_of(recurrent)}, own search: HetSyn succeeds more often",
            "",
            most_successes("hidden-5", recurrent),
            "3D-G",
        )
        for recurrent in (True, False)
    ),
    Claim(
        "Delayed match, initial 40 ms: cue synapses end longer than noise synapses",
        "",
        Beyond(hetsyn(DM, PAPER, CUE_OVER_NOISE), 1.0),
        "Table 4, there 100 to 400 ms",
    ),
    Claim(
        "Delayed match: the long time constants carry the memory",
        "",
        Better(
            (
                (
                    hetsyn(DM, PAPER, lesion_figure("random", 0.1), "without a random tenth"),
                    hetsyn(DM, PAPER, lesion_figure("longest", 0.1), "without the longest tenth"),
                ),
            )
        ),
        "appendix G",
    ),
    _searched(DM, "noise-channels-90", True),
    _robust(DM, "noise", "A3"),
    *(
        _robust(experiment, curve, place)
        for experiment in (DM, SPEECH, VOICES, ROWS)
        for curve, place in (("deletion", "4B"), ("warp", "4E, F"))
    ),
    *(
        Claim(
            f"HetSyn loses the least from 32 to 64% of deleted spikes: {_named(experiment)}",
            "",
            best(experiment, BASE, measure=DELETION_LOSS),
            "4C",
        )
        for experiment in (SPEECH, VOICES, ROWS)
    ),
    *(
        Claim(
            f"The median time constant falls in all layers: {_named(experiment)}",
            "",
            Beyond(hetsyn(experiment, BASE, MEDIANS_FALL), 1.0),
            "4D, A5",
        )
        for experiment in (PG, DM, ROWS, PIXELS, SPEECH, VOICES)
    ),
    Claim(
        f"At most 2.0% of the time constants end above 20 steps: {VOICES_NAMED}",
        "",
        Beyond(hetsyn(VOICES, BASE, TAIL), 0.02),
        "4D",
    ),
    Claim(f"{SPEECH}: HetSyn > HetNeu > ALIF > LIF", "", ordered(SPEECH), "4A"),
    _searched(VOICES, BASE, True, "4A"),
    _searched(ROWS, BASE, True),
    _searched(PIXELS, BASE, True, "Table 1"),
    *(
        Claim(
            f"HetSyn, judged in the exact form, is the best of the four: {_named(experiment)}",
            "",
            best(experiment, BASE, measure=bank_figure(None)),
        )
        for experiment in (SPEECH, VOICES, ROWS)
    ),
    *(_matched(experiment, what) for what in ("same-parameters", "same-state") for experiment in (PG, DM, ROWS)),
    *(
        Claim(
            f"A bank of 8 decays is as good as a current a synapse: {_named(experiment)}",
            "",
            Same(
                (
                    hetsyn(experiment, BASE, bank_figure(8), "bank"),
                    hetsyn(experiment, BASE, bank_figure(None), "exact"),
                ),
                margin=1,
            ),
        )
        for experiment in (DM, ROWS, SPEECH, VOICES)
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
        for experiment in (DM, ROWS, SPEECH, VOICES)
    ),
    *STREAM_CLAIMS,
)
