"""HetSyn networks as small as another model's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from experiments.runs.plan import Condition
from experiments.runs.run import RunSpec, TaskSpec, Training, open_task
from experiments.tasks.neurons import NeuronModel, bank_state_bytes, exact_state_bytes, network_spec, parameter_count
from hetsyn_model.spec import NetworkSpec


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
    best = tuple(1 for _ in full)
    for size in range(1, full[0] * 8):
        hidden = tuple(max(1, round(size * n / full[0])) for n in full)
        if measure(untrained(experiment_task, replace(task_spec, hidden=hidden), model, recurrent)) > goal:
            break
        best = hidden
    return best


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
