"""Analyses of a trained network, as functions of the network and its task; nothing here trains.

Deleted spikes and warped time at test time (arXiv 2508.11644, appendix D); time constants before and after training.
``paper_figures.py`` has the measures of the paper's own tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hetsyn_model.events import Events
from hetsyn_model.network import Network
from hetsyn_model.training.batch import Batch, Spikes
from research.runs.run import evaluate
from research.tasks.neurons import time_constants
from research.tasks.task import Task

DELETED = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
WARPS_LOG2 = (-0.5, -0.375, -0.25, -0.125, 0.0, 0.125, 0.25, 0.375, 0.5)
ChannelGroups = dict[str, tuple[int, int]]  # first channel and the one after the last, by name
TAU_EDGES_STEPS = tuple(float(edge) for edge in np.geomspace(1.0, 2048.0, 23))  # half octaves


def delete_spikes(spikes: Spikes, share: float, rng: np.random.Generator) -> Spikes:
    """Delete each spike with a probability."""
    return spikes & (rng.random(spikes.shape) >= share)


def warp_time(batch: Batch, factor: float) -> Batch:
    """Play a batch slower by a factor; steps that coincide become one."""
    dense = batch.dense()
    steps = torch.floor(batch.steps * factor + 0.5).long().clamp_min(1)
    warped = np.zeros((dense.shape[0], int(steps.max()), dense.shape[2]), np.bool_)
    stream, t, unit = dense.nonzero()
    moved = np.minimum(np.floor((t + 0.5) * factor).astype(np.int64), steps.numpy()[stream] - 1)
    warped[stream, moved, unit] = True
    return Batch(Events.of(torch.from_numpy(warped)), steps, batch.target)


def deletion_curve(network: Network, task: Task, batches: Sequence[Batch], seed: int) -> list[list[float]]:
    """Measure the figure for each share of deleted spikes: [share deleted, figure]."""
    curve = []
    for share in DELETED:
        rng = np.random.default_rng([seed, 6])
        changed = [
            replace(batch, events=Events.of(torch.from_numpy(delete_spikes(batch.dense(), share, rng))))
            for batch in batches
        ]
        curve.append([share, evaluate(network, task, changed).figure])
    return curve


def warp_curve(network: Network, task: Task, batches: Sequence[Batch]) -> list[list[float]]:
    """Measure the figure for each factor: [log2 of the factor, figure]."""
    return [
        [log2, evaluate(network, task, [warp_time(batch, 2.0**log2) for batch in batches]).figure]
        for log2 in WARPS_LOG2
    ]


def tau_groups(network: Network, channels: ChannelGroups) -> dict[str, torch.Tensor]:
    """Time constants in steps, float64 [count], by what they belong to: the groups of channels, then layers."""
    groups: dict[str, torch.Tensor] = {}
    for index, (name, layer) in enumerate(network.named_layers().items()):
        tau = time_constants(layer.r_in)
        if index == 0:
            for group, (first, end) in channels.items():
                groups[group] = tau[:, first:end].flatten()
        else:
            groups[f"{name} input"] = tau.flatten()
        if layer.r_rec is not None:
            groups[f"{name} recurrent"] = time_constants(layer.r_rec).flatten()
    return groups


def time_constant_change(before: Network, after: Network, channels: ChannelGroups) -> dict[str, Any]:
    """Histograms over TAU_EDGES_STEPS (the ends take what is beyond), medians and means of log tau, by group."""
    edges = np.array(TAU_EDGES_STEPS)

    def summary(tau: torch.Tensor) -> dict[str, Any]:
        values = np.clip(tau.numpy(), edges[0], edges[-1])
        return {
            "counts": np.histogram(values, edges)[0].tolist(),
            "median": float(np.median(values)),
            "log_mean": float(np.exp(np.log(values).mean())),
        }

    first, last = tau_groups(before, channels), tau_groups(after, channels)
    return {name: {"before": summary(first[name]), "after": summary(last[name])} for name in last}
