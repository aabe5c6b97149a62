"""The interface of neurons with their own equations."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from hetsyn_model.neurons.neuron import LearnedNeurons
    from hetsyn_model.spec.neuron import NeuronSpec


def decay_of(tau_steps: float) -> float:
    """Compute the decay a step, ``exp(-1 / tau)``, of a time constant in steps."""
    return math.exp(-1.0 / tau_steps)


class OwnNeurons(ABC):
    """The description of neurons with their own equations: a frozen dataclass, listed in ``OWN_NEURONS``."""

    def check(self, spec: NeuronSpec) -> None:  # noqa: B027
        """Raise a SpecError if the rest of the description does not fit these neurons."""

    @property
    def first_effect(self) -> float:
        """Return what a spike of weight 1 adds to a potential in its own step."""
        return 1.0

    def response(self, synaptic: float) -> Iterator[float] | None:  # noqa: ARG002
        """Give the potential after a spike of weight 1, step by step; it sizes the initial weights.

        ``synaptic`` is the decay a step of the synapses. None: the membrane only decays, with ``tau_reset_steps``.
        """
        return None

    @abstractmethod
    def learned(self, spec: NeuronSpec, neurons: int, generator: torch.Generator) -> LearnedNeurons:
        """Make the untrained module of a layer's neurons."""
