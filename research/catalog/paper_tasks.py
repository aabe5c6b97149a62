"""The paper's two tasks that need no data: pattern generation and delayed match.

Conditions stand in the order of their runs. Those of the paper's settings say which figure or table they are for.
"""

from __future__ import annotations

from dataclasses import replace

from research.runs.plan import BASE, NEURONS, PAPER, ChosenSettings, Condition, Experiment, SearchPlan
from research.runs.run import Training
from research.tasks.delayed_match import DelayedMatchSpec
from research.tasks.pattern_generation import PatternGenerationSpec

BOTH, RECURRENT, FEEDFORWARD = (True, False), (True,), (False,)
PG_RATE, PG_TAU_STEPS = 1e-3, 20.0  # 20 ms
DM_RATE, DM_TAU_STEPS = 5e-3, 8.0  # 40 ms
OTHER_NOISE_HZ, OTHER_RATES = (1, 3, 4), ("1e-4", "5e-4", "5e-3")
ADDED_NOISE_HZ, DELAYS_MS, INITIAL_TAU_MS = (20, 10, 5), (2500, 1600), (100, 200, 400)
EVERY_TAU_MS = (20, 50, 100, 200, 400, 800)  # up to the delay of delayed match
CLAIMED, ALONG = 20, 5  # seeds of what the paper makes a claim of, and of what only fills a curve


def pattern_generation() -> Experiment:
    spec = PatternGenerationSpec()
    training = Training(updates=1000, batch=1, schedule="step", evaluate_every=50, bank_size=12, whole_range_banks=True)
    paper = ChosenSettings(PG_RATE, PG_TAU_STEPS)
    return Experiment(
        "pattern-generation",
        "pattern-generation",
        training,
        SearchPlan((2e-3, 5e-3), (20.0, 60.0, 200.0), updates=250),
        (
            Condition(PAPER, spec, NEURONS, BOTH, 20, settings=paper),  # 2A-D
            *(  # 2E-F
                Condition(
                    f"{PAPER}-noise-{hz}",
                    replace(spec, noise_hz=float(hz)),
                    NEURONS,
                    BOTH,
                    10,
                    settings=paper,
                )
                for hz in OTHER_NOISE_HZ
            ),
            *(  # A1
                Condition(
                    f"{PAPER}-rate-{rate}",
                    spec,
                    NEURONS,
                    FEEDFORWARD,
                    10,
                    settings=replace(paper, learning_rate=float(rate)),
                )
                for rate in OTHER_RATES
            ),
            Condition(f"{PAPER}-targets-3", replace(spec, targets=3), NEURONS, FEEDFORWARD, 10, settings=paper),  # A2
            *(  # ours: a time constant for all models, one after the other; the paper's is the first
                Condition(f"tau-{ms}", spec, NEURONS, BOTH, 20, settings=ChosenSettings(PG_RATE, float(ms)))
                for ms in EVERY_TAU_MS
                if ms != PG_TAU_STEPS
            ),
            Condition(BASE, spec, NEURONS, RECURRENT, seeds=5),
            *(  # HetSyn as small as HetNeu of the base condition: in trained values; in state (its bank, HetNeu exact)
                Condition(name, replace(spec, hidden=(hidden,)), ("hetsyn",), RECURRENT, seeds=5)
                for name, hidden in (("same-parameters", 61), ("same-state", 27))
            ),
        ),
    )


def delayed_match() -> Experiment:
    spec = DelayedMatchSpec()
    training = Training(
        updates=1000, batch=32, schedule="step", evaluate_every=25, bank_size=12, whole_range_banks=True
    )
    paper = ChosenSettings(DM_RATE, DM_TAU_STEPS)

    def hidden(size: int) -> DelayedMatchSpec:
        return replace(spec, hidden=(size,))

    def of_hetsyn(name: str, task: DelayedMatchSpec, seeds: int, settings: ChosenSettings = paper) -> Condition:
        return Condition(f"{PAPER}-{name}", task, ("hetsyn",), RECURRENT, seeds, settings=settings)

    return Experiment(
        "delayed-match",
        "delayed-match",
        training,
        SearchPlan((5e-3, 1e-2), (8.0, 40.0, 160.0), updates=250),
        (
            *(  # 3D-G
                Condition(f"{PAPER}-hidden-{size}", hidden(size), NEURONS, BOTH, seeds=50, settings=paper)
                for size in (5, 20)
            ),
            Condition(PAPER, spec, NEURONS, BOTH, 50, settings=paper),  # 3B, 3D-G
            *(  # Table 4, appendix G
                of_hetsyn(f"tau-{ms}", spec, 20, ChosenSettings(DM_RATE, ms / spec.step_ms)) for ms in INITIAL_TAU_MS
            ),
            Condition("masked-0.8", spec, ("hetsyn",), RECURRENT, 10, masked_share=0.8, settings=paper),  # 3C
            *(  # A3
                of_hetsyn(f"delay-{ms}", replace(spec, delay_ms=ms), CLAIMED if ms == 2500 else ALONG)
                for ms in DELAYS_MS
            ),
            *(  # A3
                of_hetsyn(f"noise-{hz}", replace(spec, added_noise_hz=float(hz)), CLAIMED if hz == 20 else ALONG)
                for hz in ADDED_NOISE_HZ
            ),
            Condition(f"{PAPER}-hidden-50", hidden(50), NEURONS, BOTH, seeds=50, settings=paper),  # 3D-G
            *(  # ours: a time constant for all models, one after the other
                Condition(
                    f"tau-{ms}-hidden-{size}",
                    hidden(size),
                    NEURONS,
                    BOTH,
                    20,
                    settings=ChosenSettings(DM_RATE, ms / spec.step_ms),
                )
                for size in (5, 100)
                for ms in EVERY_TAU_MS
            ),
            # ours: a time constant that all models may choose
            Condition(BASE, hidden(20), NEURONS, BOTH, seeds=5),
        ),
    )
