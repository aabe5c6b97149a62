"""The path of spikes to a layer: direct, or delayed. Past spikes are bits of whole numbers, exact in float32.

Tap m of unit i delays its spikes by d steps: row ``m * units + i`` of the weights gets a_mi(t) = x_i(t - d). Each unit
has a shift register of whole numbers h_0, h_1, … of 24 bits. Before step t, bit 0 of h_0 is x(t - 1), bit 23 of h_0 is
x(t - 24), and bit 0 of h_1 is x(t - 25):

    read    x(t - d) = floor(h_k 2^-b) - 2 floor(floor(h_k 2^-b) / 2)      k = (d - 1) // 24, b = (d - 1) mod 24
    write   h_k <- 2 (h_k - 2^23 floor(h_k / 2^23)) + the top bit of h_(k-1); h_0 gets x(t)

Training learns a delay d that need not be whole (DelRec, arXiv 2509.24852): of a spike, the share
m(tau) = max(0, 1 + s - |tau - d|) / (1 + s)^2 arrives after tau steps. The spread s falls during training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hetsyn_model.spec.errors import HetsynError
from hetsyn_model.spec.path import REGISTER_STEPS, PathSpec
from hetsyn_model.state import Shapes, State

_TOP = 2.0 ** (REGISTER_STEPS - 1)
_SCALES = torch.tensor([2.0**-bit for bit in range(REGISTER_STEPS)])


class Steps(Protocol):
    """The path of spikes to a layer's synapses: a frozen dataclass with a state and a step."""

    def state(self, units: int) -> Shapes:
        """List the path's state tensors."""
        ...

    def step(self, state: State, x: Tensor) -> tuple[State, Tensor]:
        """Run one step: spikes [b, units] go in, and [b, taps * units] arrive."""
        ...


class Path(Steps, Protocol):
    """A path of a network."""

    def of_stream(self, x: Tensor) -> Tensor:
        """Compute what arrives in every step of whole streams [b, t, units]: [b, t, taps * units], differentiable."""
        ...

    def learning(self, dtype: torch.dtype) -> Steps:
        """Make the path with differentiable steps."""
        ...


@dataclass(frozen=True)
class Direct:
    """A path without delays."""

    def state(self, units: int) -> Shapes:  # noqa: ARG002
        return {}

    def step(self, state: State, x: Tensor) -> tuple[State, Tensor]:  # noqa: ARG002
        return {}, x

    def of_stream(self, x: Tensor) -> Tensor:
        return x

    def learning(self, dtype: torch.dtype) -> Steps:  # noqa: ARG002
        return self


@dataclass(frozen=True)
class Delays:
    """The delays of one layer's path.

    Attributes:
        steps: int64 [taps, units], whole delays, as served.
        shares: [longest + 1, taps * units], share of a spike that arrives after each number of steps, differentiable;
            None if all of it arrives after ``steps``. For training alone: :meth:`step` runs whole delays.
    """

    path: PathSpec
    steps: Tensor
    shares: Tensor | None = None

    @property
    def units(self) -> int:
        return self.steps.shape[1]

    def state(self, units: int) -> Shapes:
        return {"history": (self.path.registers, units)}

    def step(self, state: State, x: Tensor) -> tuple[State, Tensor]:
        arrived = self.arrivals(state["history"], x)
        if arrived.requires_grad:
            arrived.register_hook(_refuse_gradient)
        return {"history": push(state["history"], x)}, arrived

    def learning(self, dtype: torch.dtype) -> Steps:
        return RecentSpikes(self.path.taps, self.whole_shares(dtype) if self.shares is None else self.shares)

    def arrivals(self, history: Tensor, x: Tensor) -> Tensor:
        """Compute what arrives after whole delays, [b, taps * units], each 0 or 1.

        Args:
            history: [b, registers, units], the steps before.
            x: [b, units], the spikes of this step.
        """
        index, scale = self.read_index(), self.read_scale(x.dtype)
        known = torch.cat([x, history.flatten(1)], 1)
        shifted = torch.floor(known.index_select(1, index) * scale)
        return shifted - 2.0 * torch.floor(shifted * 0.5)

    def read_index(self) -> Tensor:
        """Return where each row reads among the step's spikes and then the registers, int64 [taps * units]."""
        register = (self.steps + (REGISTER_STEPS - 1)) // REGISTER_STEPS  # 0 is the step's spikes
        return (register * self.units + torch.arange(self.units, device=self.steps.device)).flatten()

    def read_scale(self, dtype: torch.dtype) -> Tensor:
        """Return the power of two that moves each row's bit to the lowest place, [taps * units]."""
        bit = torch.where(self.steps > 0, (self.steps - 1) % REGISTER_STEPS, 0)
        return _SCALES.to(self.steps.device, dtype)[bit.flatten()]

    def whole_shares(self, dtype: torch.dtype) -> Tensor:
        """Make ``shares`` of whole delays: 1 at each row's delay, [longest + 1, taps * units]."""
        one_hot = torch.nn.functional.one_hot(self.steps.flatten(), self.path.max_delay_steps + 1)
        return one_hot.T.to(dtype)

    def of_stream(self, x: Tensor) -> Tensor:
        batch, steps, units = x.shape
        if not steps:
            return x.new_zeros(batch, 0, self.path.taps * units)
        if self.shares is None:
            source = torch.arange(steps, device=x.device).unsqueeze(-1) - self.steps.flatten()  # [t, row]
            index = source.clamp_min(0).expand(batch, -1, -1)
            return x.repeat(1, 1, self.path.taps).gather(1, index) * (source >= 0)
        padded = torch.nn.functional.pad(x.transpose(1, 2), (self.path.max_delay_steps, 0))
        kernels = self.shares.flip(0).T.unsqueeze(1).chunk(self.path.taps)  # of each tap, [unit, 1, longest + 1]
        taps = [torch.nn.functional.conv1d(padded, kernel, groups=units) for kernel in kernels]
        return torch.cat(taps, 1).transpose(1, 2)


@dataclass(frozen=True)
class RecentSpikes:
    """The delays of a path in training. Its state is the spikes of as many steps as the longest delay."""

    taps: int
    shares: Tensor

    def state(self, units: int) -> Shapes:
        return {"recent": (self.shares.shape[0] - 1, units)}

    def step(self, state: State, x: Tensor) -> tuple[State, Tensor]:
        recent = torch.cat([x.unsqueeze(1), state["recent"]], 1)
        return {"recent": recent[:, :-1]}, (recent.repeat(1, 1, self.taps) * self.shares).sum(1)


class NoGradient(HetsynError, RuntimeError):
    """There is no gradient through delays."""

    code = "no-gradient"


def _refuse_gradient(_: Tensor) -> None:
    raise NoGradient("a step has no gradient through delays: train with Network.rollout")


def push(history: Tensor, x: Tensor) -> Tensor:
    """Compute the history [b, registers, units] after a step with the spikes x, [b, units]."""
    lost = torch.floor(history * (1.0 / _TOP))
    gained = torch.cat([x.unsqueeze(1), lost[:, :-1]], 1)
    return 2.0 * (history - _TOP * lost) + gained


def triangle(delays: Tensor, longest: int, spread: float) -> Tensor:
    """Compute the shares of a spike by the steps after which they arrive, [longest + 1, taps * units]; differentiable.

    Each column adds up to 1, even if 0 or ``longest`` cuts the triangle: else a spike would weigh less than with whole
    delays.

    Args:
        delays: [taps, units].
        spread: s; 0 divides a spike between the two whole delays around its own.
    """
    tau = torch.arange(longest + 1, device=delays.device, dtype=delays.dtype).unsqueeze(-1)
    sides = (1.0 + spread - (tau - delays.flatten()).abs()).clamp_min(0.0)
    return sides / sides.sum(0)
