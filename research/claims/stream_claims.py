"""The questions of this project about streams of sensors, with their rules.

"The" LSTM takes the scaled values: whoever uses one would not make spikes first. The LSTM on the same spikes as the
other models is a second yardstick. Either has at most as many trained values as the HetSyn network.
"""

from __future__ import annotations

from research.claims.measures import EXACT_WHOLE, FIGURE, Measure, bank_figure
from research.claims.rules import Better, Claim, Group, Same, Side, best, hetsyn
from research.runs.plan import BASE, NEURONS
from research.runs.results import RunResult

MOTION, DIGITS = "motion", "mnist1d"
RECORDINGS = 14  # of a person, seven exercises with either arm


def _whole(result: RunResult) -> float:
    return float(result.analysis["stream"]["whole"])


WHOLE = Measure("whole recordings", _whole, streams=lambda _: RECORDINGS)


def _best_of_five(experiment: str, own: Measure = FIGURE, others: Measure = FIGURE, lstm: Measure = FIGURE) -> Better:
    """HetSyn is better than each of the three other neuron models, and than an LSTM of as many trained values."""
    first = hetsyn(experiment, BASE, own)
    neurons = [Side(Group(experiment, BASE, model), others) for model in NEURONS if model != "hetsyn"]
    return Better(tuple((first, other) for other in (*neurons, Side(Group(experiment, BASE, "lstm"), lstm))))


STREAM_CLAIMS: tuple[Claim, ...] = (
    Claim(
        f"{MOTION}: HetSyn is better on the windows of a new person than HetNeu, ALIF, LIF and an LSTM of equal size",
        "",
        _best_of_five(MOTION),
    ),
    Claim(f"{MOTION}: the same, judged in the exact form", "", _best_of_five(MOTION, EXACT_WHOLE, EXACT_WHOLE)),
    Claim(f"{MOTION}: the same, on whole recordings", "", _best_of_five(MOTION, WHOLE, WHOLE, WHOLE)),
    Claim(
        f"{MOTION}: HetSyn is better than an LSTM of equal size on the same spikes",
        "",
        Better(((hetsyn(MOTION, BASE), Side(Group(MOTION, "on-spikes", "lstm"), label="LSTM on spikes")),)),
    ),
    Claim(f"{DIGITS}: HetSyn is better than HetNeu, ALIF, LIF and an LSTM of equal size", "", _best_of_five(DIGITS)),
    Claim(
        f"{DIGITS}: HetSyn, judged in the exact form, is the best of the four",
        "",
        best(DIGITS, BASE, measure=EXACT_WHOLE),
    ),
    *(
        Claim(
            f"A bank of 8 decays is as good as a current a synapse: {experiment}",
            "",
            Same(
                (
                    hetsyn(experiment, BASE, bank_figure(8), "bank"),
                    hetsyn(experiment, BASE, bank_figure(None), "exact"),
                ),
                margin=1,
            ),
        )
        for experiment in (MOTION, DIGITS)
    ),
)
