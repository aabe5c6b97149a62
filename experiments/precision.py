"""Bank against exact, and weights of fewer bits: what a trained network loses for a smaller state and file."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from experiments.task import Batch, Task, stream_figures
from hetsyn_model.bank import BankError, BankWeights, dyadic
from hetsyn_model.network import LayerWeights, Network
from hetsyn_model.state import Form, state_bytes
from hetsyn_model.synapse import ExactWeights

WeightFormat = Literal["float32", "float16", "int8"]
FORMATS: tuple[WeightFormat, ...] = get_args(WeightFormat)
BYTES: dict[WeightFormat, int] = {"float32": 4, "float16": 2, "int8": 1}


class RoundedNetwork(Network):
    """A network whose synaptic weights are rounded to a format when they are used; decays stay as they are.

    int8 has one scale a column (bank form) or neuron (exact form), a power of two, so that sums stay exact. A bank's
    float32 weights are whole numbers of 16 bits on such a scale already (``hetsyn_model/bank.py``).
    """

    def __init__(self, network: Network, weight_format: WeightFormat) -> None:
        super().__init__(network.spec)
        self.load_state_dict(network.state_dict())
        self.banks, self.weight_format = dict(network.banks), weight_format
        self.eval()

    def weights(self, form: Form) -> list[LayerWeights]:
        rounded = []
        for layer in super().weights(form):
            synapses = layer.synapses
            if isinstance(synapses, BankWeights):
                weight_in, weight_rec = self._rounded(0, synapses.weight_in, synapses.weight_rec)
                (weight_in, weight_rec, bias), grid = dyadic(weight_in, weight_rec, synapses.bias)
                assert weight_in is not None
                fewer: BankWeights | ExactWeights = replace(
                    synapses, weight_in=weight_in, weight_rec=weight_rec, bias=bias, grid=grid
                )
            else:
                weight_in, weight_rec = self._rounded(1, synapses.weight_in, synapses.weight_rec)
                assert weight_in is not None
                fewer = replace(synapses, weight_in=weight_in, weight_rec=weight_rec)
            rounded.append(replace(layer, synapses=fewer))
        return rounded

    def _rounded(self, inputs_axis: int, *weights: Tensor | None) -> list[Tensor | None]:
        present = [weight for weight in weights if weight is not None]
        if self.weight_format == "float32":
            return list(weights)
        if self.weight_format == "float16":
            return [None if weight is None else weight.half().to(weight.dtype) for weight in weights]
        largest = torch.stack([weight.abs().amax(inputs_axis, keepdim=True) for weight in present]).amax(0)
        scale = torch.exp2(torch.ceil(torch.log2(largest.clamp_min(1e-30) / 127)))
        return [None if w is None else torch.round(w / scale).clamp(-127, 127) * scale for w in weights]


def weight_bytes(network: Network, form: Form, weight_format: WeightFormat) -> int:
    """Of the synapses: weights in the format, one byte a scale (its exponent) for int8, decays in float32."""
    total = 0
    for layer in network.weights(form):
        synapses: ExactWeights | BankWeights = layer.synapses
        weights = [w for w in (synapses.weight_in, synapses.weight_rec) if w is not None]
        total += sum(w.numel() for w in weights) * BYTES[weight_format]
        if isinstance(synapses, BankWeights):
            total += 4 * synapses.decays.numel()
            total += synapses.weight_in.shape[1] if weight_format == "int8" else 0
        else:
            total += 4 * sum(r.numel() for r in (synapses.decay_in, synapses.decay_rec) if r is not None)
            total += synapses.weight_in.shape[0] if weight_format == "int8" else 0
    return total


@torch.no_grad()
def _traces(network: Network, task: Task, batches: Sequence[Batch], form: Form) -> tuple[float, list[Tensor], float]:
    """Mean figure, hidden spikes of every batch and layer as bool, and how many there are."""
    figures: list[Tensor] = []
    spikes: list[Tensor] = []
    network.eval()
    for batch in batches:
        rolled = network.rollout(batch.spikes, form, batch.steps)
        figures.append(stream_figures(task.figure, rolled, batch))
        inside = (torch.arange(batch.spikes.steps) < batch.steps.unsqueeze(-1)).unsqueeze(-1)
        spikes += [(z > 0) & inside for z in rolled.hidden_spikes]
    return float(torch.cat(figures).mean()), spikes, float(sum(int(z.sum()) for z in spikes))


def _mismatch(reference: list[Tensor], other: list[Tensor], fired: float) -> float:
    return sum(int((a != b).sum()) for a, b in zip(reference, other, strict=True)) / max(fired, 1.0)


def bank_against_exact(
    network: Network, task: Task, batches: Sequence[Batch], sizes: Sequence[int]
) -> list[dict[str, Any]]:
    """The exact form, then the bank refitted with each number of decays; spikes that differ are against exact."""
    figure, reference, fired = _traces(network, task, batches, "exact")
    rows: list[dict[str, Any]] = [
        {"form": "exact", "figure": figure, "spike_mismatch": 0.0, "kernel_error": 0.0}
        | {"state_bytes": state_bytes(network.state_layout("exact"))}
    ]
    for size in sizes:
        refitted = copy.deepcopy(network)
        try:
            errors = refitted.fit_banks(size=size)
        except BankError:
            continue
        figure, spikes, _ = _traces(refitted, task, batches, "bank")
        rows.append(
            {"form": "bank", "size": size, "largest": max(bank.size for bank in refitted.banks.values())}
            | {"figure": figure, "spike_mismatch": _mismatch(reference, spikes, fired)}
            | {"kernel_error": max(errors.values()), "state_bytes": state_bytes(refitted.state_layout("bank"))}
        )
    return rows


def weight_formats(network: Network, task: Task, batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """Each form with weights of each format; spikes that differ are against the same form in float32."""
    rows: list[dict[str, Any]] = []
    forms: tuple[Form, ...] = ("exact", "bank")
    for form in forms:
        unchanged, reference, fired = _traces(network, task, batches, form)
        for weight_format in FORMATS:
            if (form, weight_format) == ("exact", "float32"):  # what it is: no second pass of the slow form
                figure, spikes = unchanged, reference
            else:
                figure, spikes, _ = _traces(RoundedNetwork(network, weight_format), task, batches, form)
            rows.append(
                {"form": form, "weights": weight_format, "figure": figure}
                | {"spike_mismatch": _mismatch(reference, spikes, fired)}
                | {"weight_bytes": weight_bytes(network, form, weight_format)}
            )
    return rows
