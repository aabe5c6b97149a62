"""Synapses in the exact form: one current for each decay (equation 8 of arXiv 2508.11644).

    I_ji(t) = r_ji * I_ji(t-1) + w_ji * x_i(t) + b_ji

The constant drive b is an addition of the reference code, off by default. If a neuron has one decay for all synapses of
a path (Propositions 1 to 3), they share one current.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hetsyn_model.events import Events
from hetsyn_model.state import Shapes, State


@dataclass(frozen=True)
class SynapsePath:
    """The synapses from one source to a layer: from its input, or from the layer itself.

    Attributes:
        weight: w, [j, i].
        decay: r a step, [j, i], [j, 1] or [1, 1].
        bias: b, constant drive a step, [j, i] or [j, 1], shaped as the currents; None without.
    """

    weight: Tensor
    decay: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class ExactWeights:
    """One layer's synapses in the exact form.

    Attributes:
        per_synapse: each synapse has its own decay and current.
        filtered: there are currents. If not, all decays are 0, and no current is in the state.
    """

    per_synapse: bool
    input: SynapsePath
    recurrent: SynapsePath | None
    filtered: bool = True

    @property
    def neurons(self) -> int:
        return self.input.weight.shape[0]

    @property
    def is_recurrent(self) -> bool:
        return self.recurrent is not None

    @property
    def dtype(self) -> torch.dtype:
        return self.input.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.input.weight.device

    def state(self) -> Shapes:
        """List the currents: one a synapse, or one a neuron and path; none without ``filtered``."""
        found = {"input_current": self.input, "recurrent_current": self.recurrent}
        return {
            name: (self.neurons, path.weight.shape[1] if self.per_synapse else 1)
            for name, path in found.items()
            if path is not None and self.filtered
        }

    def enter(self, x: Tensor | Events) -> Tensor:
        """Return the input of one step, [b, i], or of all, [b, t, i], for :meth:`step`."""
        return x.dense(self.dtype) if isinstance(x, Events) else x

    def step(self, state: State, entered: Tensor, own: Tensor | None) -> tuple[State, Tensor]:
        """Run one step of the layer's currents. Returns them, and their sum [b, j], the first term of equation 5.

        Args:
            entered: [b, i], input spikes.
            own: [b, j], the layer's own spikes that arrive in this step; None without recurrence.
        """
        if not self.filtered:
            arriving = _arriving(entered, self.input)
            if self.recurrent is not None and own is not None:
                arriving = arriving + _arriving(own, self.recurrent)
            return {}, arriving
        after = {"input_current": self._current(state["input_current"], entered, self.input)}
        if self.recurrent is not None and own is not None:
            after["recurrent_current"] = self._current(state["recurrent_current"], own, self.recurrent)
        sums = [sum_currents(current) for current in after.values()]
        return after, sums[0] if len(sums) == 1 else sums[0] + sums[1]

    def _current(self, before: Tensor, x: Tensor, path: SynapsePath) -> Tensor:
        drive = path.weight * x.unsqueeze(-2) if self.per_synapse else exact_product(x, path.weight).unsqueeze(-1)
        return current_step(before, drive, path.decay, path.bias)


def _arriving(x: Tensor, path: SynapsePath) -> Tensor:
    """Compute the drive of one step through a path without currents, [b, j]."""
    drive = exact_product(x, path.weight)
    return drive if path.bias is None else drive + path.bias.squeeze(-1)


def current_step(current: Tensor, drive: Tensor, decay: Tensor, bias: Tensor | None) -> Tensor:
    """Run one step of a path's currents (equation 8), [b, j, i] with a decay a synapse, [b, j, 1] with one a neuron."""
    current = decay * current + drive
    return current if bias is None else current + bias


def exact_product(x: Tensor, weight: Tensor) -> Tensor:
    """Compute ``x @ weight.T``, [b, j], in float64, rounded once, as :func:`sum_currents`."""
    return (x.to(torch.float64) @ weight.to(torch.float64).T).to(x.dtype)


def sum_currents(current: Tensor) -> Tensor:
    """Sum a path's currents to [b, j].

    The sum is float64 and rounded once. So its order, which differs between torch, TorchScript and ONNX Runtime, does
    not move a potential across the threshold.
    """
    return current.to(torch.float64).sum(-1).to(current.dtype)
