"""What the paper shows of its tasks, measured on every trained network of them.

Pattern generation: the normalised distance of two occurrences of the template (figure 2B-C, appendix B), the output in
the gaps (2A), and the traces of the first seed. Delayed match: where the time constants went, and what those above
700 ms carry (Table 4, appendix G). Both: the exact form on a part of the test. SHD: deleted spikes and warped time
(appendix D). All: time constants before and after training.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from hetsyn_model.network import Network
from hetsyn_model.spec import decay_of
from hetsyn_model.state import FORMS
from research.runs.analysis import deletion_curve, time_constant_change, warp_curve
from research.runs.run import RunSpec, evaluate, run_batch
from research.tasks.delayed_match import DelayedMatch
from research.tasks.neurons import build_network
from research.tasks.pattern_generation import PatternGeneration, PatternGenerationSpec
from research.tasks.shd import Shd
from research.tasks.task import Task, first_streams

LONG_MS = 700.0  # time constants above it are the long ones of Table 4
EXACT_STREAMS = {"pattern-generation": 4, "delayed-match": 250}  # the exact form is slow
TRACE_EVERY = 20  # steps


def paper_figures(run: RunSpec, task: Task, network: Network) -> dict[str, Any]:
    """Compute the paper's own measures of a trained network, as plain values for its result; none for another task."""
    if not isinstance(task, PatternGeneration | DelayedMatch | Shd):
        return {}
    figures: dict[str, Any] = {}
    if network.spec.neuron.per_synapse and network.spec.neuron.learn_decays:
        untrained = build_network(task.shape, network.spec, tau_steps=run.tau_steps, seed=run.seed)
        figures["time_constants"] = time_constant_change(untrained, network, task.channel_groups)
    if isinstance(task, Shd):
        test = task.test()
        curves = {"deletion": deletion_curve(network, task, test, run.seed), "warp": warp_curve(network, task, test)}
        return figures | curves
    few = first_streams(task.test(), EXACT_STREAMS[run.task])
    figures["forms"] = {form: evaluate(network, task, few, form).figure for form in FORMS}
    if isinstance(task, PatternGeneration):
        with torch.no_grad():
            output = run_batch(network, task.test()[0]).readout
        figures |= {"distance": normalised_distance(task.spec, output, task.target)}
        figures |= {"gaps": {"output": in_gaps(task.spec, output), "target": in_gaps(task.spec, task.target)}}
        if run.seed == 0:
            figures["traces"] = [_trace(task.target[:, k], output[:2, :, k]) for k in range(task.spec.targets)]
    elif "time_constants" in figures:
        long_steps = LONG_MS / task.spec.step_ms
        reset, share = without_long(network, long_steps, run.tau_steps)
        # its bank is fitted to the decays that are gone
        reset.fit_banks(size=run.training.bank_size, hold=True, whole_range=run.training.whole_range_banks)
        figures["long"] = {"share": share, "reset": evaluate(reset, task, task.test()).figure}
    return figures


def occurrences(spec: PatternGenerationSpec, trace: Tensor) -> list[Tensor]:
    """Cut traces [..., steps, targets] to the parts during which the template is there."""
    period = spec.template_ms + spec.gap_ms
    return [trace[..., k * period : k * period + spec.template_ms, :] for k in range(spec.repeats)]


def normalised_distance(spec: PatternGenerationSpec, output: Tensor, target: Tensor) -> float:
    """Mean squared difference of the output between two occurrences of the template, over that of the target.

    The first and the second occurrence, and the second and the third (appendix B). A network that only knows the
    template gives 0, the target itself 1.

    Args:
        output: [batch, steps, targets].
        target: [steps, targets].
    """

    def apart(trace: Tensor) -> float:
        squares = [((a - b).double() ** 2).mean() for a, b in pairwise(occurrences(spec, trace))]
        return float(torch.stack(squares).mean())

    return apart(output) / apart(target)


def in_gaps(spec: PatternGenerationSpec, trace: Tensor) -> float:
    """Mean absolute value of traces [..., steps, targets] between the occurrences of the template."""
    period = spec.template_ms + spec.gap_ms
    gaps = [trace[..., k * period + spec.template_ms : (k + 1) * period, :] for k in range(spec.repeats - 1)]
    return float(torch.cat(gaps, -2).double().abs().mean())


@torch.no_grad()
def without_long(network: Network, long_steps: float, initial_steps: float) -> tuple[Network, float]:
    """Copy a network with its long time constants back at the initial mean (appendix G); also return their share.

    Args:
        network: stays as it is.
        long_steps: time constants above it are reset.
        initial_steps: what they become.
    """
    changed, long, synapses = copy.deepcopy(network), 0, 0
    for decay in changed.decays().values():
        is_long = decay > decay_of(long_steps)
        decay.masked_fill_(is_long, decay_of(initial_steps))
        long, synapses = long + int(is_long.sum()), synapses + decay.numel()
    return changed, long / synapses


def _trace(target: Tensor, outputs: Tensor) -> dict[str, Any]:
    def thinned(values: Tensor) -> list[float]:
        return [round(value, 4) for value in values[::TRACE_EVERY].tolist()]

    return {"target": thinned(target), "outputs": [thinned(output) for output in outputs]}
