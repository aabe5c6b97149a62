"""Delays in the plans: on the path that a condition names, learned or fixed; wide networks have HetSyn's size."""

from __future__ import annotations

import pytest

from hetsyn_model.training.schedule import DelayTraining, cosine_factor
from research.catalog import EXPERIMENTS
from research.catalog.delays import LEARNED, WIDE
from research.catalog.matched import untrained
from research.runs.plan import BASE
from research.tasks.delays import LONGEST_DELAY_STEPS
from research.tasks.neurons import parameter_count


def test_a_condition_has_the_delays_that_it_names() -> None:
    experiment = EXPERIMENTS["delays-series"]()
    for condition in experiment.conditions:
        spec = untrained(experiment.task, condition.task_spec, "homneu", recurrent=True)
        paths = {"input": spec.input_path, "recurrent": spec.recurrent_path}
        delayed = {path: value for path, value in paths.items() if value.max_delay_steps}
        assert set(delayed) == {path for path in paths if path in condition.name}
        for path in delayed.values():
            assert 8 <= path.max_delay_steps <= LONGEST_DELAY_STEPS
            assert path.learn_delays == ("learned" in condition.name)


@pytest.mark.parametrize("name", [WIDE, *(f"{WIDE}-{path}" for path in LEARNED)])
def test_a_wide_network_has_as_many_trained_values_as_hetsyn(name: str) -> None:
    experiment = EXPERIMENTS["delays-series"]()
    goal = parameter_count(untrained(experiment.task, experiment.condition(BASE).task_spec, "hetsyn", recurrent=True))
    wide = experiment.condition(name)
    size = parameter_count(untrained(experiment.task, wide.task_spec, "homneu", recurrent=True))
    assert 0.95 * goal < size <= goal


def test_learned_delays_can_cross_their_range() -> None:
    updates, how = EXPERIMENTS["delays-series"]().training.updates, DelayTraining()
    moved = sum(
        how.rate * cosine_factor(update / updates)
        for update in range(updates)
        if how.spread(update / updates) is not None
    )
    assert moved > LONGEST_DELAY_STEPS
