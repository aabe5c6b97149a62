"""The paper's claims with the rules that judge them. Figures and tables are the paper's."""

from __future__ import annotations

from research.claims.by_epoch import BEST_BY_TEST, LATE_MEAN
from research.claims.measures import (
    CUE_CHANGE,
    ERROR_ITSELF,
    LEARNING_CURVE,
    LONG_RESET,
    LONG_SHARE,
    MEDIANS_FALL,
    NOISE_CHANGE,
    NORMALISED_DISTANCE,
    OUTPUT_IN_GAPS,
    READOUT_TAIL,
    curve_mean,
    updates_until,
)
from research.claims.rules import (
    OTHERS,
    Better,
    Beyond,
    Claim,
    Group,
    Same,
    Side,
    TrainedValues,
    Within,
    WithoutData,
    best,
    best_throughout,
    hetsyn,
    kind_of,
    most_successes,
    ordered,
    stable,
)
from research.runs.analysis import WARPS_LOG2
from research.runs.names import NAMES
from research.runs.plan import NEURONS, PAPER, WHOLE
from research.runs.run import NeuronModel

PG, DM, SHD = "pattern-generation", "delayed-match", "shd-recorded"

DIFFERS = (
    "initial weights N(0, 1/n), time constants of at most 2,000 steps, gradients clipped at a norm of 5, a bank of 12 "
    "decays for the exact form, the update chosen by validation trials"
)
PG_DIFFERS = f"{DIFFERS}, the target divided by its largest absolute value"
DISTANCE = f"{PG_DIFFERS}; one distance over both pairs of occurrences, where the paper has one for each"
TABLE_4 = f"{DIFFERS}; recurrent networks and all of their synapses, where the paper does not say which"
ADDED_NOISE = f"{DIFFERS}; the added noise is on every channel, which the paper does not say"
NOISE_HZ = {1: f"{PAPER}-noise-1", 2: PAPER, 3: f"{PAPER}-noise-3", 4: f"{PAPER}-noise-4"}
RATES = {"1e-4": f"{PAPER}-rate-1e-4", "5e-4": f"{PAPER}-rate-5e-4", "1e-3": PAPER, "5e-3": f"{PAPER}-rate-5e-3"}
INITIAL_TAU_MS = {ms: f"{PAPER}-tau-{ms}" for ms in (100, 200, 400)}
MEANS = f"{DIFFERS}; recurrent networks and geometric means, where the paper does not say which"
SHD_DIFFERS = "a bank of 12 decays for the exact form; speakers left out choose the epoch (paper: the test data)"
SHD_WARPS = f"{SHD_DIFFERS}; nine set factors in place of 20 drawn ones"
NO_SHD = "SHD is not on the project's machines; with its files: `python -m research shd-recorded`"


def _degrades(model: NeuronModel, recurrent: bool) -> Side:
    """How much a model's error grows from 1 Hz of noise to 4 Hz; as a factor, a small error would grow the most."""
    after, before = (Group(PG, NOISE_HZ[hz], model, recurrent) for hz in (4, 1))
    return Side(after, ERROR_ITSELF, since=before)


PATTERN_GENERATION: tuple[Claim, ...] = (
    *(
        Claim(
            f"Pattern generation, {kind_of(recurrent)}: HetSyn has the lowest error",
            "2F" if recurrent else "2D, E",
            best(PG, PAPER, recurrent),
            PG_DIFFERS,
        )
        for recurrent in (True, False)
    ),
    *(
        Claim(
            f"Pattern generation, feedforward, rate {rate}: HetSyn has the lowest mean error over training",
            "2D, A1" if condition == PAPER else "A1",
            best(PG, condition, False, LEARNING_CURVE),
            PG_DIFFERS,
        )
        for rate, condition in RATES.items()
    ),
    Claim(
        "Pattern generation, recurrent: HetSyn has the lowest mean error over training",
        "section 4.1",
        best(PG, PAPER, True, LEARNING_CURVE),
        PG_DIFFERS,
    ),
    *(
        Claim(
            f"Pattern generation, {kind_of(recurrent)}: {NAMES[model]} gives almost no output in the gaps "
            "(below half of the target's)",
            "2A",
            Beyond(Side(Group(PG, PAPER, model, recurrent), OUTPUT_IN_GAPS), 0.5),
            PG_DIFFERS,
        )
        for recurrent in (True, False)
        for model in ("alif", "homneu")
    ),
    *(
        Claim(
            f"Pattern generation, {kind_of(recurrent)}: HetSyn has the highest normalised distance",
            "2B, C",
            best(PG, PAPER, recurrent, NORMALISED_DISTANCE),
            DISTANCE,
        )
        for recurrent in (True, False)
    ),
    *(
        Claim(
            f"Pattern generation, {kind_of(recurrent)}: LIF has the lowest normalised distance",
            "2B, C",
            Better(
                tuple(
                    (
                        Side(Group(PG, PAPER, model, recurrent), NORMALISED_DISTANCE),
                        Side(Group(PG, PAPER, "homneu", recurrent), NORMALISED_DISTANCE),
                    )
                    for model in ("hetsyn", "hetneu", "alif")
                )
            ),
            DISTANCE,
        )
        for recurrent in (True, False)
    ),
    *(
        Claim(
            f"Pattern generation, {kind_of(recurrent)}: HetSyn has the lowest error with noise of {hz} Hz",
            "2F" if recurrent else "2E",
            best(PG, condition, recurrent),
            PG_DIFFERS,
        )
        for recurrent in (True, False)
        for hz, condition in NOISE_HZ.items()
        if condition != PAPER
    ),
    *(
        Claim(
            f"Pattern generation, {kind_of(recurrent)}: the others degrade more from 1 Hz of noise to 4 Hz",
            "2F" if recurrent else "2E",
            Better(tuple((_degrades("hetsyn", recurrent), _degrades(model, recurrent)) for model in OTHERS)),
            PG_DIFFERS,
        )
        for recurrent in (True, False)
    ),
    Claim(
        "Pattern generation, feedforward: HetSyn has the lowest error with three targets at once",
        "A2",
        best(PG, f"{PAPER}-targets-3", False),
        f"{PG_DIFFERS}; the figure shows HetSyn alone",
    ),
)

DELAYED_MATCH: tuple[Claim, ...] = (
    Claim("Delayed match, feedforward: HetSyn is the most accurate", "3B", best(DM, PAPER, False), DIFFERS),
    Claim(
        "Delayed match, feedforward: HetSyn learns fastest",
        "3B",
        best(DM, PAPER, False, updates_until(0.95)),
        DIFFERS,
    ),
    Claim(
        "Delayed match, recurrent: HetSyn solves it with 80% of the time constants masked (paper: 100%)",
        "3C",
        Beyond(hetsyn(DM, "masked-0.8"), 0.99),
        DIFFERS,
    ),
    *(
        Claim(
            f"Delayed match, {size} neurons, {kind_of(recurrent)}: HetSyn succeeds more often",
            "3D-G",
            most_successes(PAPER if size == 100 else f"{PAPER}-hidden-{size}", recurrent),
            DIFFERS,
        )
        for recurrent in (True, False)
        for size in (5, 20, 50, 100)
    ),
    Claim(
        "Delayed match: HetSyn bridges a delay of 2,500 ms (paper: 100%)",
        "A3",
        Beyond(hetsyn(DM, f"{PAPER}-delay-2500"), 0.99),
        DIFFERS,
    ),
    Claim(
        "Delayed match: a delay of 2,500 ms takes as many updates as one of 800 ms, within 50",
        "A3",
        Same(
            (
                hetsyn(DM, f"{PAPER}-delay-2500", updates_until(0.95), "2,500 ms"),
                hetsyn(DM, PAPER, updates_until(0.95), "800 ms"),
            ),
            margin=50,
        ),
        DIFFERS,
    ),
    Claim(
        "Delayed match: HetSyn is near 80% with added noise of 20 Hz, trained with it",
        "A3",
        Within(hetsyn(DM, f"{PAPER}-noise-20"), 0.7, 0.9),
        ADDED_NOISE,
    ),
    *(
        Claim(
            f"Delayed match, initial {ms} ms: {what} (paper: {paper:+d}%)",
            "Table 4",
            Beyond(hetsyn(DM, condition, measure), 1.0),
            MEANS,
        )
        for (ms, condition), changes in zip(INITIAL_TAU_MS.items(), ((54, -14), (26, -9), (8, -4)), strict=True)
        for what, measure, paper in zip(
            ("cue synapses get longer", "noise synapses get shorter"), (CUE_CHANGE, NOISE_CHANGE), changes, strict=True
        )
    ),
    *(
        Claim(
            f"Delayed match, initial {ms} ms: 5 to 6% of the synapses end above 700 ms (with a margin of 1%)",
            "Table 4",
            Within(hetsyn(DM, condition, LONG_SHARE), 0.04, 0.07),
            TABLE_4,
        )
        for ms, condition in INITIAL_TAU_MS.items()
    ),
    Claim(
        "Delayed match: resetting these synapses to the initial mean costs accuracy (paper: 23 to 24 points)",
        "appendix G",
        Better(
            tuple(
                (hetsyn(DM, condition, label=f"{ms} ms"), hetsyn(DM, condition, LONG_RESET, "the same reset"))
                for ms, condition in INITIAL_TAU_MS.items()
            )
        ),
        TABLE_4,
    ),
)

DATA_SETS: tuple[Claim, ...] = (
    Claim("SHD: HetSyn > HetNeu > ALIF > LIF", "4A", ordered(SHD, PAPER), SHD_DIFFERS, without=NO_SHD),
    Claim("SHD: HetSyn learns fastest", "4A", best(SHD, PAPER, measure=updates_until(0.8)), SHD_DIFFERS, NO_SHD),
    Claim(
        "SHD, spikes deleted at test time: HetSyn > HetNeu > ALIF > LIF",
        "4B, C, A4",
        ordered(SHD, PAPER, measure=curve_mean("deletion")),
        SHD_DIFFERS,
        NO_SHD,
    ),
    Claim(
        "SHD: HetSyn is the most accurate at each factor of warped time",
        "4E, F, A4",
        best_throughout(SHD, PAPER, "warp", [log2 for log2 in WARPS_LOG2 if log2]),
        SHD_WARPS,
        NO_SHD,
    ),
    Claim(
        "SHD: HetSyn is stable from 32 to 64% of deleted spikes, the others drop sharply",
        "4C",
        stable(SHD, PAPER),
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
        "SHD: a mild long tail, 2.0% of the readout's time constants above 20 ms (with a margin of 1%)",
        "4D",
        Within(hetsyn(SHD, PAPER, READOUT_TAIL), 0.01, 0.03),
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
        WithoutData("60,000 images are not on the project's machines"),
    ),
    Claim(
        "A network of M inputs and N neurons trains 2MN values as HetSyn, MN + N as HetNeu, MN as LIF",
        "Table 3",
        TrainedValues(
            tuple(
                Group(task, PAPER, model, recurrent)
                for task in (DM, PG)
                for model in NEURONS
                for recurrent in (True, False)
            )
        ),
    ),
)

PAPER_CLAIMS = (*PATTERN_GENERATION, *DELAYED_MATCH, *DATA_SETS)
