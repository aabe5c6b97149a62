"""The interface of a layer's neurons. CONTRIBUTING.md says how to add some."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor, nn

from hetsyn_model.spec import SurrogateSpec
from hetsyn_model.state import Shapes, State


class Neuron(Protocol):
    """The neurons of a layer, ready to run: a frozen dataclass; its tensors are constants of the exported graph."""

    def state(self, neurons: int) -> Shapes:
        """List the neurons' state tensors. Spiking neurons have ``spikes``."""
        ...

    def step(self, state: State, currents: Tensor, surrogate: SurrogateSpec | None) -> tuple[State, Tensor]:
        """Run one step, and return the state after it, and the potential [b, j].

        Args:
            state: every tensor of :meth:`state`, with a leading batch axis.
            currents: [b, j], sum of all synaptic currents of this step.
            surrogate: derivative of the threshold in training; None outside training.
        """
        ...


class LearnedNeurons(nn.Module, ABC):
    """The learned parameters of neurons with their own equations."""

    @abstractmethod
    def neuron(self, threshold: Tensor) -> Neuron:
        """Make the neurons to run, with thresholds [j]."""

    def gain(self) -> Tensor | None:
        """Return the factor on the weights of each neuron's synapses, [j]; None without."""
        return None

    def clamp_(self) -> None:
        """Bring every learned value back within its bounds."""
