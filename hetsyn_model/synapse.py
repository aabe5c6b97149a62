"""Synapses in the exact form: one current for each decay.

    I_ji(t) = r_ji * I_ji(t-1) + w_ji * x_i(t) + b_ji

Where a neuron has one decay for all its synapses of a path, their currents are one current.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hetsyn_model.state import State


@dataclass(frozen=True)
class ExactWeights:
    """One layer's synapses. Weights [j, i]; decays [j, i], [j, 1] or [1, 1]; biases shaped as the currents.

    per_synapse: whether each synapse has a decay, and so a current, of its own.
    """

    per_synapse: bool
    weight_in: Tensor
    decay_in: Tensor
    bias_in: Tensor | None
    weight_rec: Tensor | None
    decay_rec: Tensor | None
    bias_rec: Tensor | None

    def step(self, layer: str, state: State, x: Tensor, spikes_before: Tensor | None) -> tuple[State, Tensor]:
        """One step: the layer's new current tensors, and their sum a neuron [b, j].

        Args:
            state: holds ``{layer}.input_current`` and, with recurrence, ``{layer}.recurrent_current``.
            x: [b, i] input spikes; spikes_before: [b, j] the layer's own at the step before.
        """
        arrived = {
            f"{layer}.input_current": current_step(
                state[f"{layer}.input_current"], self._drive(x, self.weight_in), self.decay_in, self.bias_in
            )
        }
        if self.weight_rec is not None:
            assert self.decay_rec is not None
            assert spikes_before is not None
            arrived[f"{layer}.recurrent_current"] = current_step(
                state[f"{layer}.recurrent_current"],
                self._drive(spikes_before, self.weight_rec),
                self.decay_rec,
                self.bias_rec,
            )
        sums = [sum_currents(current) for current in arrived.values()]
        return arrived, sums[0] if len(sums) == 1 else sums[0] + sums[1]

    def _drive(self, x: Tensor, weight: Tensor) -> Tensor:
        """What spikes [b, i] add to the currents."""
        return weight * x.unsqueeze(-2) if self.per_synapse else exact_product(x, weight).unsqueeze(-1)


def current_step(current: Tensor, drive: Tensor, decay: Tensor, bias: Tensor | None) -> Tensor:
    """One step of a path's currents.

    Args:
        current, drive: [b, j, i] with a decay a synapse, [b, j, 1] with one a neuron.
        decay: [j, i], [j, 1] or [1, 1].
        bias: constant drive, shaped as the current of one stream; None without.
    """
    current = decay * current + drive
    return current if bias is None else current + bias


def exact_product(x: Tensor, weight: Tensor) -> Tensor:
    """[b, j]: ``x @ weight.T``, added up in float64 and rounded once; see :func:`sum_currents`."""
    return (x.to(torch.float64) @ weight.to(torch.float64).T).to(x.dtype)


def sum_currents(current: Tensor) -> Tensor:
    """[b, j]: sum over a path's currents.

    Added up in float64 and rounded once, so that the order of the sum, which differs between torch,
    TorchScript and ONNX Runtime, does not move a potential across the threshold.
    """
    return current.to(torch.float64).sum(-1).to(current.dtype)
