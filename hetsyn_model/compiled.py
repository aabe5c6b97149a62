"""A network ready to run: the weights of every layer in one form, and the layout of their state.

:meth:`hetsyn_model.network.Network.compile` makes it. Step, rollout, ONNX graph and TorchScript take it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from hetsyn_model.neurons.neuron import Neuron
from hetsyn_model.neurons.spike import BaseNeuron, ResettingNeuron
from hetsyn_model.spec import NetworkSpec, SurrogateSpec
from hetsyn_model.state import Form, State, StateTensor, decision_layout, state_name
from hetsyn_model.synapses.bank import BankWeights
from hetsyn_model.synapses.path import Direct, Path, Steps
from hetsyn_model.synapses.synapse import ExactWeights
from hetsyn_model.tensors import detached


@dataclass(frozen=True)
class LayerWeights:
    """One layer in one form.

    Attributes:
        name: ``hidden1``, ``hidden2``, …, ``readout``.
        inputs: units of the layer before.
        recurrent_path: of the layer's own spikes.
    """

    name: str
    inputs: int
    synapses: ExactWeights | BankWeights
    neuron: Neuron
    input_path: Path
    recurrent_path: Path

    def layout(self, recurrent_path: Steps | None = None) -> list[StateTensor]:
        """List what the layer keeps between steps, in the artifact's order. Training gives another recurrent path."""
        own_path = self.recurrent_path if recurrent_path is None else recurrent_path
        shapes = self.synapses.state() | self.neuron.state(self.neurons)
        shapes |= {f"input_{name}": shape for name, shape in self.input_path.state(self.inputs).items()}
        shapes |= {f"recurrent_{name}": shape for name, shape in own_path.state(self.neurons).items()}
        return [StateTensor(state_name(self.name, name), shape) for name, shape in shapes.items()]

    def step(self, state: State, x: Tensor, surrogate: SurrogateSpec | None = None) -> tuple[State, Tensor]:
        """Run one step, and return the layer's state after it, and its potential [b, j].

        Args:
            state: every tensor of the layer, with a leading batch axis; other layers' are ignored.
            x: [b, inputs], spikes of the layer before, or the network's input.
            surrogate: as :meth:`hetsyn_model.neurons.neuron.Neuron.step`.
        """
        history, x = self.input_path.step(_part(state, f"{self.name}.input_"), x)
        after, potential = self.advance(state, self.synapses.enter(x), self.recurrent_path, surrogate)
        return after | _named(f"{self.name}.input_", history), potential

    def advance(
        self, state: State, entered: Tensor, recurrent_path: Steps, surrogate: SurrogateSpec | None = None
    ) -> tuple[State, Tensor]:
        """Run what follows a step's input: recurrence, currents, neurons.

        Args:
            entered: the result of ``synapses.enter``.
            recurrent_path: the layer's, or in training a differentiable one.
        """
        mine = _part(state, f"{self.name}.")
        own, after = None, State()
        if self.is_recurrent:
            history, own = recurrent_path.step(_part(mine, "recurrent_"), mine["spikes"])
            after = _named("recurrent_", history)
        currents, total = self.synapses.step(mine, entered, own)
        kept, potential = self.neuron.step(mine, total, surrogate)
        return _named(f"{self.name}.", currents | kept | after), potential

    @property
    def neurons(self) -> int:
        return self.synapses.neurons

    @property
    def is_recurrent(self) -> bool:
        return self.synapses.is_recurrent

    @property
    def kappa(self) -> Tensor | None:
        """Return the decay a step of the reset current or the membrane, [j]; None for neurons without either."""
        return getattr(self.neuron, "kappa", None)

    @property
    def threshold(self) -> Tensor | None:
        """Return theta, [j]; None for neurons that do not spike."""
        return getattr(self.neuron, "threshold", None)

    @property
    def is_native(self) -> bool:
        """Return whether the native rollout can run the neurons and the recurrence, with all gradients."""
        # it has none of thresholds and of membranes' decays
        learned = (self.threshold, None if isinstance(self.neuron, ResettingNeuron) else self.kappa)
        if any(value is not None and value.requires_grad for value in learned):
            return False
        return isinstance(self.neuron, BaseNeuron) and isinstance(self.recurrent_path, Direct)


def _part(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _named(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@dataclass(frozen=True)
class Compiled:
    """A network in one form. It is never changed.

    Attributes:
        form: ``exact``, a current a synapse, or ``bank``, K shared decays a layer.
        layers: in the order in which a step runs through them; differentiable in the network's parameters.
    """

    spec: NetworkSpec
    form: Form
    layers: tuple[LayerWeights, ...]

    @cached_property
    def layout(self) -> tuple[StateTensor, ...]:
        """Return the state tensors of one stream, in the order of the artifact."""
        layers = (tensor for layer in self.layers for tensor in layer.layout())
        return (*layers, *decision_layout(self.spec.decision, self.spec.outputs))

    @property
    def dtype(self) -> torch.dtype:
        return self.layers[0].synapses.dtype

    @property
    def device(self) -> torch.device:
        return self.layers[0].synapses.device

    def detach(self) -> Compiled:
        """Return a copy with constants, without gradients."""
        return replace(self, layers=tuple(detached(layer) for layer in self.layers))
