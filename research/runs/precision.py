"""Bank against exact, and weights of fewer bits: the loss of a trained network for a smaller state and file."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from hetsyn_model.bank import BankError, BankWeights, dyadic
from hetsyn_model.compiled import Compiled
from hetsyn_model.network import Network
from hetsyn_model.rollout import rollout
from hetsyn_model.state import FORMS, state_bytes
from hetsyn_model.synapse import ExactWeights
from hetsyn_model.training.batch import Batch
from research.tasks.task import Task, stream_figures

WeightFormat = Literal["float32", "float16", "int8"]
WEIGHT_FORMATS: tuple[WeightFormat, ...] = get_args(WeightFormat)
BYTES: dict[WeightFormat, int] = {"float32": 4, "float16": 2, "int8": 1}


def rounded(compiled: Compiled, weight_format: WeightFormat) -> Compiled:
    """The network with synaptic weights rounded to a format; decays stay as they are.

    int8 has one scale a column (bank form) or neuron (exact form), a power of two, so that sums stay exact. A bank's
    float32 weights are whole numbers of 16 bits on such a scale already (``hetsyn_model/bank.py``).
    """
    layers = []
    for layer in compiled.layers:
        synapses: BankWeights | ExactWeights
        if isinstance(layer.synapses, BankWeights):
            synapses = _rounded_bank(layer.synapses, weight_format)
        else:
            synapses = _rounded_exact(layer.synapses, weight_format)
        layers.append(replace(layer, synapses=synapses))
    return replace(compiled, layers=tuple(layers))


def _rounded_bank(synapses: BankWeights, weight_format: WeightFormat) -> BankWeights:
    rows = {"input": synapses.weight_in}
    if synapses.weight_rec is not None:
        rows["recurrent"] = synapses.weight_rec
    rows = _rounded(rows, weight_format, inputs_axis=0)
    if synapses.bias is not None:
        rows["bias"] = synapses.bias.unsqueeze(0)
    on_grid, grid = dyadic(rows)
    return BankWeights(
        on_grid["input"],
        on_grid.get("recurrent"),
        on_grid["bias"].squeeze(0) if "bias" in on_grid else None,
        synapses.decays,
        grid,
        synapses.value_channels,
    )


def _rounded_exact(synapses: ExactWeights, weight_format: WeightFormat) -> ExactWeights:
    paths = {"input": synapses.input}
    if synapses.recurrent is not None:
        paths["recurrent"] = synapses.recurrent
    weights = _rounded({name: path.weight for name, path in paths.items()}, weight_format, inputs_axis=1)
    fewer = {name: replace(path, weight=weights[name]) for name, path in paths.items()}
    return ExactWeights(synapses.per_synapse, fewer["input"], fewer.get("recurrent"))


def _rounded(weights: dict[str, Tensor], weight_format: WeightFormat, inputs_axis: int) -> dict[str, Tensor]:
    if weight_format == "float32":
        return dict(weights)
    if weight_format == "float16":
        return {name: weight.half().to(weight.dtype) for name, weight in weights.items()}
    largest = torch.stack([weight.abs().amax(inputs_axis, keepdim=True) for weight in weights.values()]).amax(0)
    scale = torch.exp2(torch.ceil(torch.log2(largest.clamp_min(1e-30) / 127)))
    return {name: torch.round(weight / scale).clamp(-127, 127) * scale for name, weight in weights.items()}


def weight_bytes(compiled: Compiled, weight_format: WeightFormat) -> int:
    """Of the synapses: weights in the format, one byte a scale (its exponent) for int8, decays in float32."""
    total = 0
    for layer in compiled.layers:
        if isinstance(layer.synapses, BankWeights):
            weights, decays = [layer.synapses.weight_in, layer.synapses.weight_rec], [layer.synapses.decays]
            scales = layer.synapses.weight_in.shape[1]
        else:
            paths = [path for path in (layer.synapses.input, layer.synapses.recurrent) if path is not None]
            weights, decays = [path.weight for path in paths], [path.decay for path in paths]
            scales = layer.neurons
        total += sum(weight.numel() for weight in weights if weight is not None) * BYTES[weight_format]
        total += 4 * sum(decay.numel() for decay in decays) + (scales if weight_format == "int8" else 0)
    return total


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


def weight_formats(network: Network, task: Task, batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """Each form with weights of each format; spikes that differ are against the same form in float32."""
    rows: list[dict[str, Any]] = []
    for form in FORMS:
        compiled = network.compile(form)
        unchanged, reference, fired = _traces(compiled, task, batches)
        for weight_format in WEIGHT_FORMATS:
            fewer = rounded(compiled, weight_format)
            if (form, weight_format) == ("exact", "float32"):  # nothing is rounded: no second pass of the slow form
                figure, spikes = unchanged, reference
            else:
                figure, spikes, _ = _traces(fewer, task, batches)
            rows.append(
                {"form": form, "weights": weight_format, "figure": figure}
                | {"spike_mismatch": _mismatch(reference, spikes, fired)}
                | {"weight_bytes": weight_bytes(compiled, weight_format)}
            )
    return rows
