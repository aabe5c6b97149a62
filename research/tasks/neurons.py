"""Networks for a task: the four neuron models with the same layers, initial weights and time constants."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from hetsyn_model.network import Network
from hetsyn_model.spec import NetworkSpec, Variant, decay_of, variant
from research.tasks.task import Shape

NeuronModel = Literal["hetsyn", "hetneu", "homneu", "alif", "dh-snn", "free-bank"]
LONGEST_TAU_STEPS = 2000.0  # the decays' upper end: longer than any trial but one, and within reach of a bank


def network_spec(shape: Shape, model: NeuronModel, *, recurrent: bool, tau_steps: float) -> NetworkSpec:
    """Describe a network of one neuron model for a task.

    Args:
        model: the neuron model.
        recurrent: whether hidden layers are recurrent.
        tau_steps: the fixed time constant (LIF, ALIF), or the mean of the initial ones.
    """
    half = min(math.sqrt(3.0) * shape.tau_spread, 0.95) * tau_steps  # of a uniform range with that deviation
    # DH-SNN and the free bank are made of HetSyn's network
    like: Variant = "hetsyn" if model == "dh-snn" or model == "free-bank" else model
    neuron = variant(
        like,
        tau_steps=shape.tau_reset_steps if like == "hetsyn" else tau_steps,
        tau_init_steps=(tau_steps - half, tau_steps + half),
        adaptation_tau_steps=shape.adaptation_tau_steps,
        adaptation_strength=shape.adaptation_strength,
        reset_tau_steps=shape.tau_reset_steps if shape.fixed_reset else None,
    )
    if neuron.learn_decays:
        neuron = type(neuron)(**(vars(neuron) | {"decay_range": (0.0, decay_of(LONGEST_TAU_STEPS))}))
    return NetworkSpec(
        channels=shape.channels,
        hidden=shape.hidden,
        outputs=shape.outputs,
        recurrent=recurrent,
        dropout=shape.dropout,
        step_s=shape.step_s,
        neuron=neuron,
        surrogate=shape.surrogate,
        decision=shape.decision,
    )


def build_network(shape: Shape, spec: NetworkSpec, *, tau_steps: float, seed: int) -> Network:
    """Make the untrained network of a seed, with the task's initial weights and initial time constants."""
    network = Network(spec, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1_000_003)
    of_weights = torch.Generator().manual_seed(seed + 3_000_017)
    with torch.no_grad():
        for layer in network.named_layers().values():
            for weight in (layer.w_in, layer.w_rec):
                if weight is not None and shape.weights == "fan-in":
                    normal = torch.randn(weight.shape, generator=of_weights, dtype=torch.float64)
                    weight.copy_(normal / math.sqrt(weight.shape[1]))
            for decay in (layer.r_in, layer.r_rec):
                if shape.tau_normal and decay is not None and spec.neuron.learn_decays:
                    normal = torch.randn(decay.shape, generator=generator, dtype=torch.float64)
                    tau = (tau_steps * (1 + shape.tau_spread * normal)).clamp_min(1.0)
                    decay.copy_(torch.exp(-1.0 / tau))
    return network


def time_constants(decay: Tensor) -> Tensor:
    """Time constants tau = -1 / ln r in steps, float64, shaped as the decays; 0 for r = 0, infinite for r = 1."""
    return -1.0 / torch.log(decay.detach().double())


def trained_values(spec: NetworkSpec, model: NeuronModel, filters: int = 0) -> int:
    """Count the values that training changes: weights, and decays that are learned."""
    total, inputs = 0, spec.channels
    for neurons, is_hidden in (*((size, True) for size in spec.hidden), (spec.outputs, False)):
        synapses = inputs + (neurons if spec.recurrent and is_hidden else 0)
        branches = min(filters, synapses) if is_hidden else 1  # a neuron of DH-SNN's readout has one
        of_neuron = {
            "hetsyn": 2 * synapses,
            "hetneu": synapses + 1,
            "dh-snn": synapses + branches,
            "free-bank": filters * synapses,
        }
        total += neurons * of_neuron.get(model, synapses)
        inputs = neurons
    return total
