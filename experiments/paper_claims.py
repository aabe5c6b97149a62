"""The paper's claims with the rules that judge them. Figures and tables are the paper's."""

from __future__ import annotations

from experiments.by_epoch import BEST_BY_TEST, LATE_MEAN
from experiments.measures import (
    DELETION_LOSS,
    LEARNING_CURVE,
    MEDIANS_FALL,
    NORMALISED_DISTANCE,
    TAIL,
    curve_mean,
    updates_until,
)
from experiments.plan import BASE, NEURONS, PAPER, WHOLE
from experiments.rules import (
    Better,
    Beyond,
    Claim,
    Group,
    Same,
    Side,
    TrainedValues,
    WithoutData,
    best,
    hetsyn,
    kind_of,
    most_successes,
    ordered,
    planned,
)

PG, DM, SHD = "pattern-generation", "delayed-match", "shd-recorded"

PG_DIFFERS = "two hidden layers (paper: one), amplitudes U(0.5, 2), noise of 1 to 4 Hz in each trial"
DM_DIFFERS = "no rate term in the loss, doubled initial weights, half the updates"
DM5_DIFFERS = "no rate term in the loss, doubled initial weights"
SHD_DIFFERS = "a bank of 12 decays for the exact form; speakers left out choose the epoch (paper: the test data)"
NO_SHD = "SHD is not on the project's machines; with its files: `hetsyn experiment shd-recorded`"


PATTERN_GENERATION: tuple[Claim, ...] = (
    Claim("Pattern generation, recurrent: HetSyn has the lowest error", "2D", best(PG, PAPER), PG_DIFFERS),
    Claim(
        "Pattern generation, recurrent: HetSyn learns fastest",
        "2D, A1",
        best(PG, PAPER, measure=LEARNING_CURVE),
        PG_DIFFERS,
    ),
    Claim(
        "Pattern generation, feedforward: HetSyn has the lowest error", "2D", planned("better than each", PG, PAPER, 20)
    ),
    Claim(
        "Pattern generation: LIF and ALIF give almost no output in the gaps",
        "2A",
        planned("mean absolute output in the gaps below half of the target's", PG, PAPER, 20, ("alif", "homneu")),
    ),
    Claim(
        "Pattern generation: HetSyn has the highest normalised distance",
        "2B, C",
        best(PG, BASE, measure=NORMALISED_DISTANCE),
        f"searched settings; {PG_DIFFERS}",
    ),
    Claim(
        "Pattern generation: LIF has the lowest normalised distance",
        "2B, C",
        Better(
            tuple(
                (
                    Side(Group(PG, BASE, model), NORMALISED_DISTANCE),
                    Side(Group(PG, BASE, "homneu"), NORMALISED_DISTANCE),
                )
                for model in ("hetsyn", "hetneu", "alif")
            )
        ),
        f"searched settings; {PG_DIFFERS}",
    ),
    Claim(
        "Pattern generation: HetSyn has the lowest error with noise of 1, 2, 3 and 4 Hz",
        "2E, F",
        planned("better than each at each level", PG, PAPER, 20, conditions=4),
    ),
    Claim(
        "Pattern generation: HetSyn learns fastest at learning rates of 1e-4, 5e-4, 1e-3 and 5e-3",
        "A1",
        planned("better than each at each rate", PG, PAPER, 20, conditions=4),
    ),
    Claim("Pattern generation: HetSyn draws three targets at once", "A2", planned("better than each", PG, PAPER, 20)),
)

DELAYED_MATCH: tuple[Claim, ...] = (
    Claim("Delayed match, feedforward: HetSyn is the most accurate", "3B", best(DM, PAPER, False), DM_DIFFERS),
    Claim(
        "Delayed match, feedforward: HetSyn learns fastest",
        "3B",
        best(DM, PAPER, False, updates_until(0.95)),
        DM_DIFFERS,
    ),
    Claim(
        "Delayed match, recurrent: HetSyn solves it with 80% of the time constants masked (paper: 100%)",
        "3C",
        Beyond(hetsyn(DM, "masked-0.8"), 0.99),
        DM_DIFFERS,
    ),
    *(
        Claim(
            f"Delayed match, {size} neurons, {kind_of(recurrent)}: HetSyn succeeds more often",
            "3D-G",
            most_successes(PAPER if size == 100 else f"{PAPER}-hidden-{size}", recurrent),
            DM5_DIFFERS if size == 5 else DM_DIFFERS,
        )
        for recurrent, sizes in ((True, (5, 20, 50, 100)), (False, (5, 100)))
        for size in sizes
    ),
    *(
        Claim(
            f"Delayed match, {size} neurons, feedforward: HetSyn succeeds more often",
            "3D-G",
            planned("more successes than each", DM, f"{PAPER}-hidden-{size}", 20),
        )
        for size in (20, 50)
    ),
    Claim(
        "Delayed match: HetSyn bridges a delay of 2,500 ms (paper: 100%)",
        "A3",
        Beyond(hetsyn(DM, f"{PAPER}-delay-2500"), 0.99),
        DM_DIFFERS,
    ),
    Claim(
        "Delayed match: a delay of 2,500 ms takes as many updates as one of 800 ms",
        "A3",
        Same(
            (
                hetsyn(DM, f"{PAPER}-delay-2500", updates_until(0.95), "2,500 ms"),
                hetsyn(DM, PAPER, updates_until(0.95), "800 ms"),
            ),
            margin=50,
        ),
        DM_DIFFERS,
    ),
    Claim(
        "Delayed match: HetSyn is near 80% with additional noise of 20 Hz, trained with it",
        "A3",
        planned("90% interval within 70 to 90%", DM, PAPER, 20, ("hetsyn",)),
    ),
    Claim(
        "Delayed match: cue synapses end longer than noise synapses, for initial 100, 200 and 400 ms",
        "Table 4",
        planned("ratio of changes above 1 at each", DM, PAPER, 20, ("hetsyn",), conditions=3),
    ),
    Claim(
        "Delayed match: 5 to 6% of the synapses end above 700 ms",
        "Table 4",
        planned("95% interval overlaps 5 to 6%", DM, PAPER, 0, ("hetsyn",)),
    ),
    Claim(
        "Delayed match: resetting these synapses to the initial mean costs 23 to 24 points",
        "appendix G",
        planned("better without the reset", DM, PAPER, 0, ("hetsyn",)),
    ),
)

DATA_SETS: tuple[Claim, ...] = (
    Claim("SHD: HetSyn > HetNeu > ALIF > LIF", "4A", ordered(SHD, PAPER), SHD_DIFFERS, without=NO_SHD),
    Claim("SHD: HetSyn learns fastest", "4A", best(SHD, PAPER, measure=updates_until(0.8)), SHD_DIFFERS, NO_SHD),
    *(
        Claim(
            f"SHD: HetSyn is the most accurate with {what}",
            place,
            best(SHD, PAPER, measure=curve_mean(curve)),
            SHD_DIFFERS,
            NO_SHD,
        )
        for curve, what, place in (("deletion", "deleted spikes", "4B, A4"), ("warp", "warped time", "4E, F, A4"))
    ),
    Claim(
        "SHD: HetSyn is stable from 32 to 64% of deleted spikes, the others drop sharply",
        "4C",
        best(SHD, PAPER, measure=DELETION_LOSS),
        SHD_DIFFERS,
        NO_SHD,
    ),
    Claim(
        "SHD: time constants move to lower values in all layers",
        "4D, A5",
        Beyond(hetsyn(SHD, PAPER, MEDIANS_FALL), 1.0),
        SHD_DIFFERS,
        NO_SHD,
    ),
    Claim(
        "SHD: a mild long tail, 2.0% of the time constants above 20 ms",
        "4D",
        Beyond(hetsyn(SHD, PAPER, TAIL), 0.02),
        SHD_DIFFERS,
        NO_SHD,
    ),
    # the published log of one run: 92.36 at the best epoch by test, 91.5 as mean of epochs 40 to 99
    Claim(
        "SHD: 92.36% at the best epoch by test, to within a point",
        "Table 1",
        Beyond(hetsyn(SHD, WHOLE, BEST_BY_TEST), 0.9136),
        "a bank of 12 decays for the exact form",
        NO_SHD,
    ),
    Claim(
        "SHD: 91.5% over epochs 40 to 99, to within a point",
        "published log",
        Beyond(hetsyn(SHD, WHOLE, LATE_MEAN), 0.905),
        "a bank of 12 decays for the exact form",
        NO_SHD,
    ),
    Claim("TiDigits: 98.99%", "Table 1", WithoutData("licensed data")),
    Claim("Ti46-Alpha: 96.53%", "Table 1", WithoutData("licensed data")),
    Claim(
        "Sequential MNIST: 98.93%",
        "Table 1",
        WithoutData("60,000 images are not on the project's machines; 5,000 are: see vision-pixels"),
    ),
    Claim(
        "A network of M inputs and N neurons trains 2MN values as HetSyn, MN + N as HetNeu, MN as LIF",
        "Table 3",
        TrainedValues(tuple(Group(DM, PAPER, model, recurrent) for model in NEURONS for recurrent in (True, False))),
    ),
)

PAPER_CLAIMS = (*PATTERN_GENERATION, *DELAYED_MATCH, *DATA_SETS)
