"""Compares the bank with the exact form: what a trained network loses for a smaller state."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hetsyn_model.bank import BankError
from hetsyn_model.compiled import Compiled
from hetsyn_model.network import Network
from hetsyn_model.rollout import rollout
from hetsyn_model.state import state_bytes
from hetsyn_model.training.batch import Batch
from research.tasks.task import Task, stream_figures


@torch.no_grad()
def _traces(compiled: Compiled, task: Task, batches: Sequence[Batch]) -> tuple[float, list[Tensor], float]:
    """Mean figure, hidden spikes of every batch and layer as bool, and their number."""
    figures: list[Tensor] = []
    spikes: list[Tensor] = []
    for batch in batches:
        rolled = rollout(compiled, batch.events, batch.steps)
        figures.append(stream_figures(task.figure, rolled, batch))
        inside = (torch.arange(batch.events.steps) < batch.steps.unsqueeze(-1)).unsqueeze(-1)
        spikes += [(z > 0) & inside for z in rolled.hidden_spikes]
    return float(torch.cat(figures).mean()), spikes, float(sum(int(z.sum()) for z in spikes))


def _mismatch(reference: list[Tensor], other: list[Tensor], fired: float) -> float:
    return sum(int((a != b).sum()) for a, b in zip(reference, other, strict=True)) / max(fired, 1.0)


def bank_against_exact(
    network: Network, task: Task, batches: Sequence[Batch], sizes: Sequence[int]
) -> list[dict[str, Any]]:
    """The exact form, then the bank refitted with each number of decays; spikes that differ are against exact."""
    exact = network.compile("exact")
    figure, reference, fired = _traces(exact, task, batches)
    rows: list[dict[str, Any]] = [
        {"form": "exact", "figure": figure, "spike_mismatch": 0.0, "kernel_error": 0.0}
        | {"state_bytes": state_bytes(exact.layout)}
    ]
    for size in sizes:
        refitted = copy.deepcopy(network)
        try:
            errors = refitted.fit_banks(size=size)
        except BankError:
            continue
        compiled = refitted.compile("bank")
        figure, spikes, _ = _traces(compiled, task, batches)
        rows.append(
            {"form": "bank", "size": size, "largest": max(bank.size for bank in refitted.banks.values())}
            | {"figure": figure, "spike_mismatch": _mismatch(reference, spikes, fired)}
            | {"kernel_error": max(errors.values()), "state_bytes": state_bytes(compiled.layout)}
        )
    return rows
