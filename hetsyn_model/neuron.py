"""What the neurons of a layer are to the rest: an object with a state, a step and constants.

The equations are in ``spike.py`` for the paper's neurons and those of membranes, in ``resonance.py`` for SE-adLIF.
CONTRIBUTING.md says how to add neurons.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor, nn

from hetsyn_model.spec import SurrogateSpec
from hetsyn_model.state import Shapes, State


class Neuron(Protocol):
    """The neurons of a layer, ready to run: a frozen dataclass, whose tensors are constants of the exported graph."""

    def state(self, neurons: int) -> Shapes:
        """List what the neurons keep between steps. Those that spike keep ``spikes``."""
        ...

    def step(self, state: State, currents: Tensor, surrogate: SurrogateSpec | None) -> tuple[State, Tensor]:
        """Run one step.

        Args:
            state: every tensor of :meth:`state`, with a leading batch axis.
            currents: [b, j], sum of all synaptic currents of this step.
            surrogate: derivative of the threshold in training; None outside training.

        Returns:
            The state after the step, and the potential [b, j].
        """
        ...


class LearnedNeurons(nn.Module, ABC):
    """What the neurons of a layer learn, for those that have equations of their own."""

    @abstractmethod
    def neuron(self, threshold: Tensor) -> Neuron:
        """Make the neurons that run.

        Args:
            threshold: [j].
        """

    def gain(self) -> Tensor | None:
        """Give the factor on the weights of each neuron's synapses, [j]; None where there is none."""
        return None

    def clamp_(self) -> None:
        """Bring every learned value back within its bounds."""
