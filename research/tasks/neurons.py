"""Networks for a task: the four neuron models with the same layers, initial weights and time constants."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from hetsyn_model.bank import Bank
from hetsyn_model.network import Network
from hetsyn_model.run_folder import RunError
from hetsyn_model.spec import NetworkSpec, NeuronSpec, PathSpec, ResonanceSpec, Variant, decay_of, se_adlif, variant
from hetsyn_model.state import state_bytes
from research.tasks.task import Shape

NeuronModel = Literal[
    "hetsyn", "hetneu", "homneu", "alif", "lstm", "se-adlif", "hetsyn-resonance", "dh-snn", "free-bank"
]
LONGEST_TAU_STEPS = 2000.0  # the decays' upper end: longer than any trial but one, and within reach of a bank


def network_spec(shape: Shape, model: NeuronModel, *, recurrent: bool, tau_steps: float) -> NetworkSpec:
    """A network of one neuron model for a task.

    Args:
        shape: of the task's network.
        model: the neuron model.
        recurrent: whether hidden layers are recurrent.
        tau_steps: the fixed time constant (LIF, ALIF), or the mean of the initial ones: of the synapses, and of the
            membranes of resonant neurons, whose recovery currents are twelve times as slow, as in their paper.

    Raises:
        ValueError: an LSTM has no such description.
    """
    half = min(math.sqrt(3.0) * shape.tau_spread, 0.95) * tau_steps  # of a uniform range with that deviation
    if model == "lstm":
        raise ValueError("an LSTM is none of our networks: see SequenceLSTM")
    if model == "se-adlif":
        neuron = _resonant(shape.tau_reset_steps, tau_steps, None)
    elif model == "hetsyn-resonance":
        neuron = _resonant(shape.tau_reset_steps, tau_steps, (tau_steps - half, tau_steps + half))
    else:
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
    if neuron.learn_decays and neuron.is_filtered:
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
        input_path=shape.input_path,
        recurrent_path=shape.recurrent_path if recurrent else PathSpec(),
    )


def _resonant(readout_tau_steps: float, tau_steps: float, synapses: tuple[float, float] | None) -> NeuronSpec:
    """SE-adLIF with membranes around a time constant, all in the proportions of its paper (5 to 25 around 15 steps).

    Args:
        readout_tau_steps: of the readout.
        tau_steps: mean of the membranes' initial time constants.
        synapses: range of the synapses' initial ones, one a synapse; None for synapses without.
    """
    paper, scale = ResonanceSpec(), tau_steps / 15.0
    resonance = replace(
        paper,
        tau_steps=(scale * paper.tau_steps[0], scale * paper.tau_steps[1]),
        recovery_tau_steps=(scale * paper.recovery_tau_steps[0], scale * paper.recovery_tau_steps[1]),
    )
    neuron = replace(se_adlif(readout_tau_steps), resonance=resonance)
    if synapses is None:
        return neuron
    return replace(neuron, decays="synapse", tau_init_steps=synapses, decay_range=(0.0, 1.0))


def filters_of(kernel: str) -> int:
    """Read the number of filters a neuron in ``filters-4``.

    Raises:
        RunError: it is another kernel, or fewer than two filters.
    """
    name, _, count = kernel.partition("-")
    if name != "filters" or not count.isdigit() or int(count) < 2:
        raise RunError(f"kernel {kernel!r}: DH-SNN and the free bank have filters-2, filters-4 or more")
    return int(count)


def build_network(shape: Shape, spec: NetworkSpec, *, tau_steps: float, seed: int) -> Network:
    """The untrained network of a seed, with the task's initial weights and distribution of initial time constants."""
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


def parameter_count(spec: NetworkSpec) -> int:
    """Values that training changes."""
    return sum(p.numel() for p in Network(spec).parameters() if p.requires_grad)


def exact_state_bytes(spec: NetworkSpec) -> int:
    """Bytes of one stream's state in the exact form."""
    return state_bytes(Network(spec).compile("exact").layout)


def bank_state_bytes(spec: NetworkSpec, bank_size: int) -> int:
    """Bytes of one stream's state in the bank form, with banks of one size."""
    network = Network(spec)
    bank = Bank(tuple(k / (bank_size + 1) for k in range(bank_size)))  # any decays of that number
    network.banks = dict.fromkeys(spec.layer_names, bank)
    return state_bytes(network.compile("bank").layout)
