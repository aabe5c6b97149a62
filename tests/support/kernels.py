"""Kernels without any bank: the recursion that defines the fractional ones, and networks by direct convolution."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hetsyn_model import Network, NetworkSpec, NeuronSpec
from hetsyn_model.layer import Layer
from hetsyn_model.spec import DecisionSpec, KernelSpec, Rule

KERNELS: dict[str, tuple[NeuronSpec, KernelSpec]] = {
    "self-synapse": (NeuronSpec(reset="same_kernel"), KernelSpec()),
    "pair": (NeuronSpec(), KernelSpec("pair")),
    "pair-neuron": (NeuronSpec(decays="neuron", reset="same_kernel"), KernelSpec("pair", factor_init=(0.2, 1.5))),
    "fractional": (NeuronSpec(reset="same_kernel"), KernelSpec("fractional", order_init=(0.4, 0.9), window_steps=100)),
    "fractional-layer": (
        NeuronSpec(decays="shared", tied=True, reset="same_kernel", tau_init_steps=(6.0, 6.0)),
        KernelSpec("fractional", order_init=(0.6, 0.6), window_steps=100),
    ),
    "fractional-own-reset": (
        NeuronSpec(decays="neuron", adaptation_strength=0.1),
        KernelSpec("fractional", order_init=(0.5, 1.0), unit="sum", window_steps=100),
    ),
}


def kernel_network(
    kind: str,
    *,
    channels: int = 12,
    hidden: tuple[int, ...] = (9, 7),
    outputs: int = 3,
    recurrent: bool = True,
    rule: Rule = "sum_softmax",
) -> Network:
    """A network of a kind of kernels that fires, without banks; the same at every call."""
    neuron, kernel = KERNELS[kind]
    spec = NetworkSpec(
        channels,
        hidden,
        outputs,
        recurrent=recurrent,
        neuron=neuron,
        kernel=kernel,
        decision=DecisionSpec(rule, skip_steps=2),
    )
    made = Network(spec, seed=3).eval()
    with torch.no_grad():
        for layer in made.named_layers().values():
            layer.w_in.mul_(2.0)
    return made


def spikes(batch: int = 3, steps: int = 60, channels: int = 12, seed: int = 0) -> Tensor:
    """Spikes [batch, steps, channels] of a seed."""
    return (torch.rand(batch, steps, channels, generator=torch.Generator().manual_seed(seed)) < 0.15).float()


def gruenwald_letnikov(order: float, decay: float, steps: int) -> NDArray[np.float64]:
    """Impulse response of ``v(t) (1 + rate) = rate u(t) - sum_(j>0) b_j v(t-j)``, whose sum is 1, step by step.

    Args:
        order: of the derivative.
        decay: r, with ``rate = (1 - r) / r``.
        steps: of the response.
    """
    rate = (1.0 - decay) / decay
    b = np.cumprod(np.concatenate([[1.0], 1.0 - (1.0 + order) / np.arange(1, steps)]))
    v = np.zeros(steps)
    v[0] = rate / (1.0 + rate)
    for t in range(1, steps):
        v[t] = -np.dot(b[1 : t + 1], v[t - 1 :: -1]) / (1.0 + rate)
    return v


def kernels_of(layer: Layer, suffix: str, steps: int) -> NDArray[np.float64]:
    """[j | 1, i | 1, steps]: every kernel of a path, from its definition."""

    def values(name: str) -> NDArray[np.float64]:
        parameter: Tensor = layer.get_parameter(f"{name}_{suffix}")
        return parameter.detach().double().numpy()

    r, n, kernel = values("r"), np.arange(steps), layer.spec.kernel
    if kernel.shape == "exponential":
        return np.asarray(r[..., None] ** n)
    if kernel.shape == "pair":
        return np.asarray(r[..., None] ** n - values("factor")[..., None] * values("fast")[..., None] ** n)
    found = np.zeros((*r.shape, steps))
    for index in np.ndindex(*r.shape):
        response = gruenwald_letnikov(float(values("order")[index]), float(r[index]), steps)
        found[index] = response / (1.0 if kernel.unit == "sum" else response[0])
    return found


def convolved(network: Network, spikes: Tensor) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """A network of currents that sums each spike's kernel, step by step: no state but the spikes so far.

    Returns:
        Spikes [b, t, j] of each hidden layer, and the readout [b, t, o].
    """
    x = spikes.double().numpy()
    hidden: list[NDArray[np.float64]] = []
    for layer in network.named_layers().values():
        z, x_out = _layer(layer, x)
        if layer.spiking:
            hidden.append(z)
        x = z if layer.spiking else x_out
    return hidden, x


def _layer(layer: Layer, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    batch, steps, inputs = x.shape
    n, neuron = layer.neurons, layer.spec.neuron
    weight = layer.w_in.detach().double().numpy()
    into = np.broadcast_to(kernels_of(layer, "in", steps), (n, inputs, steps))
    tied, has_own = layer.r_rec is None, layer.spiking and (layer.w_rec is not None or neuron.reset == "same_kernel")
    own = np.broadcast_to(kernels_of(layer, "in" if tied else "rec", steps), (n, n, steps)) if has_own else into
    w_rec = np.zeros((n, n)) if layer.w_rec is None else layer.w_rec.detach().double().numpy()
    theta = neuron.threshold
    if neuron.reset == "same_kernel":
        w_rec = w_rec - theta * np.eye(n)
    z, v = np.zeros((batch, steps, n)), np.zeros((batch, steps, n))
    kappa = 0.0 if layer.kappa is None else layer.kappa.numpy()
    reset, adaptation = np.zeros((batch, n)), np.zeros((batch, n))
    for t in range(steps):
        past = x[:, t::-1].transpose(0, 2, 1)  # [b, i, n], newest first
        v[:, t] = np.einsum("bin,ji,jin->bj", past, weight, into[..., : t + 1])
        if not layer.spiking:
            continue
        if t and has_own:
            fired = z[:, t - 1 :: -1].transpose(0, 2, 1)
            v[:, t] += np.einsum("bin,ji,jin->bj", fired, w_rec, own[..., :t])
        before = z[:, t - 1] if t else np.zeros((batch, n))
        if neuron.reset == "subtract":
            reset = kappa * reset + theta * before
            v[:, t] -= reset
        adaptation = np.exp(-1 / neuron.adaptation_tau_steps) * adaptation + neuron.adaptation_strength * before
        z[:, t] = v[:, t] > theta + adaptation
    return z, v
