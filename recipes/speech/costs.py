"""What a network costs: trained values, state, operations and energy of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch

from export.inspection.operations import Work, count, work_of_network
from hetsyn_model.network import Network
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.state import decision_layout, state_bytes
from hetsyn_model.training.tied_layer import level_changes
from recipes.speech.networks import BRANCHES, ENCODER, FILTERS, LIKE_HETSYN, Model, make, spec_of
from recipes.speech.pool import Clip
from recipes.speech.training import FRONT, SERVED_TAIL_STEPS, Recipe
from research.tasks.free_bank import FreeBank
from research.tasks.neurons import trained_values as of_branches
from service.contract.manifest import TensorDescription

CLIP_STEPS: Final = 100  # that a network keeps which hears a clip whole
BATCH: Final = 128


def trained_values(recipe: Recipe) -> int:
    """Count the trained values of a run's network without auxiliary outputs; what is tied counts once."""
    network = make(recipe.shape, len(recipe.vocabulary.classes), 0)
    if isinstance(network, Network) and recipe.shape.kind == "dh-snn":
        return of_branches(network.spec, "dh-snn", BRANCHES)
    return sum(value.numel() for value in network.parameters())


def cost(model: Model, recipe: Recipe, clips: Sequence[Clip]) -> dict[str, float]:
    """Count what a run's network costs, with the spikes that recordings cause.

    State and operations are those of a step as it is served: the bank form of HetSyn and what is like it, one current a
    neuron and path of the other spiking networks, with the encoder's spikes as input. The encoder is not counted.
    """
    if isinstance(model, Network | FreeBank):
        state, work = _of_spikes(recipe)
        activity = _activity(model, clips)
    else:
        state, work = _of_values(recipe)
        activity = {}
    counted = count(work, activity)
    return {
        "state_bytes": state,
        "operations": counted.multiplications + counted.additions,
        "nanojoules": counted.arithmetic_nj,
    }


def _of_spikes(recipe: Recipe) -> tuple[int, Work]:
    spec = spec_of(recipe.shape, len(recipe.labels))
    network, sizes = Network(spec), dict(zip(spec.layer_names, (*spec.hidden, spec.outputs), strict=True))
    # of each unit into a layer: a weight a neuron, or one a neuron and decay of the bank
    if recipe.shape.kind in LIKE_HETSYN:
        decays = [FILTERS] * len(sizes) if recipe.shape.kind == "free-bank" else recipe.served_banks
        network.fit_banks(size=decays)
        layout = network.compile("bank").layout
    else:
        decays = [1] * len(sizes)
        layout = network.compile("exact").layout
    tensors, units = {}, spec.channels
    for (name, neurons), size in zip(sizes.items(), decays, strict=True):
        tensors[f"{name}.weight_in"] = np.ones((units, neurons * size), np.float32)
        if name != "readout":
            tensors[f"{name}.weight_rec"] = np.ones((neurons, neurons * size), np.float32)
        units = neurons
    state = [
        TensorDescription(name=tensor.name, shape=tensor.shape, dtype=tensor.dtype, initial=tensor.initial)
        for tensor in layout
        if not tensor.is_decision
    ]
    return state_bytes(layout), work_of_network(tensors, state, sizes, spec.channels)


def _of_values(recipe: Recipe) -> tuple[int, Work]:
    """Count a network without spikes: every value is multiplied."""
    hidden, outputs = recipe.shape.hidden, len(recipe.labels)
    if recipe.shape.kind == "gru":
        macs = sum(3 * cells * (inputs + cells + 1) for inputs, cells in pairwise((ENCODER.bands, *hidden)))
        kept = sum(hidden)
    else:  # a layer has half the bands and half the steps of the one before
        widths = (1, *hidden)
        macs = sum(
            9 * inputs * channels * ENCODER.bands // 4**layer
            for layer, (inputs, channels) in enumerate(pairwise(widths))
        )
        kept, outputs = ENCODER.bands * CLIP_STEPS, 0  # it decides once, from a whole clip
    macs += hidden[-1] * outputs
    decision = decision_layout(DecisionSpec("sum_softmax"), outputs) if outputs else ()
    work = Work((), 0, 0, 0, 0, macs=macs, constant_bytes=0, state_bytes=4 * kept)
    return 4 * kept + state_bytes(decision), work


@torch.no_grad()
def _activity(model: Network | FreeBank, clips: Sequence[Clip]) -> Mapping[str, Any]:
    """Measure the share of steps in which a unit spikes, a mean over the units of each layer."""
    spikes: dict[str, float] = dict.fromkeys(("input", *model.spec.layer_names[:-1]), 0.0)
    steps = 0
    for at in range(0, len(clips), BATCH):
        batch = FRONT.encode(clips[at : at + BATCH], SERVED_TAIL_STEPS)
        spikes["input"] += batch.events.units.numel() / ENCODER.channels
        steps += int(batch.steps.sum())
        rolled = model.rollout(level_changes(batch.events, ENCODER), "bank", batch.steps)
        inside = torch.arange(batch.events.steps) < batch.steps.unsqueeze(-1)
        for name, fired in zip(model.spec.layer_names[:-1], rolled.hidden_spikes, strict=True):
            spikes[name] += float(fired[inside].mean(-1).sum())
    return {name: total / steps for name, total in spikes.items()}
