"""HetSyn networks as small as another model's."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from itertools import count

from hetsyn_model.spec import NetworkSpec
from research.runs.plan import Condition
from research.runs.run import RunSpec, TaskSpec, Training, open_task
from research.tasks.neurons import NeuronModel, bank_state_bytes, exact_state_bytes, network_spec, parameter_count


def matched_hidden(
    experiment_task: str,
    task_spec: TaskSpec,
    *,
    recurrent: bool,
    measure: Callable[[NetworkSpec], int],
    goal: int,
    model: NeuronModel = "hetsyn",
) -> tuple[int, ...]:
    """Hidden sizes of a model's largest network, all layers in proportion, whose measure is within the goal."""
    full = task_spec.hidden

    def hidden(size: int) -> tuple[int, ...]:
        return tuple(max(1, round(size * n / full[0])) for n in full)

    def measured(size: int) -> int:
        return measure(untrained(experiment_task, replace(task_spec, hidden=hidden(size)), model, recurrent))

    beyond = next(size for size in (2**n for n in count()) if measured(size) > goal)
    return hidden(bisect_right(range(1, beyond), goal, key=measured))


def untrained(task: str, task_spec: TaskSpec, model: NeuronModel, recurrent: bool) -> NetworkSpec:
    """The description of a model's network for a task."""
    run = RunSpec("", "", task, task_spec, model, recurrent, 0, 1.0, 10.0, Training(1, 1, "step"))
    return network_spec(open_task(run).shape, model, recurrent=recurrent, tau_steps=10.0)


def matched(task: str, spec: TaskSpec, bank_size: int, recurrent: bool, seeds: int) -> tuple[Condition, ...]:
    """HetSyn as small as HetNeu of the base condition: in trained values; in state (HetSyn's bank, HetNeu exact)."""
    hetneu = untrained(task, spec, "hetneu", recurrent)
    by_parameters = matched_hidden(
        task, spec, recurrent=recurrent, measure=parameter_count, goal=parameter_count(hetneu)
    )
    by_state = matched_hidden(
        *(task, spec),
        recurrent=recurrent,
        measure=lambda s: bank_state_bytes(s, bank_size),
        goal=exact_state_bytes(hetneu),
    )
    return tuple(
        Condition(name, replace(spec, hidden=hidden), ("hetsyn",), (recurrent,), seeds)
        for name, hidden in (("same-parameters", by_parameters), ("same-state", by_state))
    )
