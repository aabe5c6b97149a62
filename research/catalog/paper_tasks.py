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
DM_RATE, DM_TAU_MS = 5e-3, 40
OTHER_NOISE_HZ, OTHER_RATES = (1, 3, 4), ("1e-4", "5e-4", "5e-3")
# with their seeds: 20 of what the paper makes a claim of, 5 of what only fills a curve
ADDED_NOISE_HZ, DELAYS_MS = ((20, 20), (10, 5), (5, 5)), ((2500, 20), (1600, 5))
INITIAL_TAU_MS = (100, 200, 400)
EVERY_TAU_MS = (20, 50, 100, 200, 400, 800)  # up to the delay of delayed match


def pattern_generation() -> Experiment:
    spec = PatternGenerationSpec()

    def given(
        name: str,
        recurrent: tuple[bool, ...],
        seeds: int,
        task: PatternGenerationSpec = spec,
        rate: float = PG_RATE,
        tau_steps: float = PG_TAU_STEPS,
    ) -> Condition:
        return Condition(name, task, NEURONS, recurrent, seeds, settings=ChosenSettings(rate, tau_steps))

    def small(name: str, hidden: int) -> Condition:
        return Condition(name, replace(spec, hidden=(hidden,)), ("hetsyn",), RECURRENT, seeds=5)

    return Experiment(
        "pattern-generation",
        "pattern-generation",
        Training(updates=1000, batch=1, schedule="step", evaluate_every=50, bank_size=12, whole_range_banks=True),
        SearchPlan((2e-3, 5e-3), (20.0, 60.0, 200.0), updates=250),
        (
            given(PAPER, BOTH, 20),  # 2A-D
            *(  # 2E-F
                given(f"{PAPER}-noise-{hz}", BOTH, 10, replace(spec, noise_hz=float(hz))) for hz in OTHER_NOISE_HZ
            ),
            *(given(f"{PAPER}-rate-{rate}", FEEDFORWARD, 10, rate=float(rate)) for rate in OTHER_RATES),  # A1
            given(f"{PAPER}-targets-3", FEEDFORWARD, 10, replace(spec, targets=3)),  # A2
            # ours: a time constant for all models, one after the other; the paper's is the first
            *(given(f"tau-{ms}", BOTH, 20, tau_steps=float(ms)) for ms in EVERY_TAU_MS if ms != PG_TAU_STEPS),
            Condition(BASE, spec, NEURONS, RECURRENT, seeds=5),
            # HetSyn as small as HetNeu of the base condition: in trained values; in state (its bank, HetNeu exact)
            small("same-parameters", 61),
            small("same-state", 27),
        ),
    )


def delayed_match() -> Experiment:
    spec = DelayedMatchSpec()

    def hidden(size: int) -> DelayedMatchSpec:
        return replace(spec, hidden=(size,))

    def given(name: str, task: DelayedMatchSpec, seeds: int, tau_ms: int = DM_TAU_MS) -> Condition:
        return Condition(name, task, NEURONS, BOTH, seeds, settings=ChosenSettings(DM_RATE, tau_ms / spec.step_ms))

    def of_hetsyn(name: str, task: DelayedMatchSpec, seeds: int, tau_ms: int = DM_TAU_MS) -> Condition:
        return replace(given(name, task, seeds, tau_ms), models=("hetsyn",), recurrent=RECURRENT)

    return Experiment(
        "delayed-match",
        "delayed-match",
        Training(updates=1000, batch=32, schedule="step", evaluate_every=25, bank_size=12, whole_range_banks=True),
        SearchPlan((5e-3, 1e-2), (8.0, 40.0, 160.0), updates=250),
        (
            *(given(f"{PAPER}-hidden-{size}", hidden(size), 50) for size in (5, 20)),  # 3D-G
            given(PAPER, spec, 50),  # 3B, 3D-G
            *(of_hetsyn(f"{PAPER}-tau-{ms}", spec, 20, ms) for ms in INITIAL_TAU_MS),  # Table 4, appendix G
            replace(of_hetsyn("masked-0.8", spec, 10), masked_share=0.8),  # 3C
            *(  # A3
                of_hetsyn(f"{PAPER}-delay-{ms}", replace(spec, delay_ms=ms), seeds) for ms, seeds in DELAYS_MS
            ),
            *(  # A3
                of_hetsyn(f"{PAPER}-noise-{hz}", replace(spec, added_noise_hz=float(hz)), seeds)
                for hz, seeds in ADDED_NOISE_HZ
            ),
            given(f"{PAPER}-hidden-50", hidden(50), 50),  # 3D-G
            *(  # ours: a time constant for all models, one after the other
                given(f"tau-{ms}-hidden-{size}", hidden(size), 20, tau_ms=ms)
                for size in (5, 100)
                for ms in EVERY_TAU_MS
            ),
            Condition(BASE, hidden(20), NEURONS, BOTH, seeds=5),  # ours: a time constant that all models may choose
        ),
    )
