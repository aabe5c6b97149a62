"""A network ready to run: the weights of every layer in one form, and the layout of their state.

:meth:`hetsyn_model.network.Network.compile` makes it. Step, rollout, ONNX graph and TorchScript take it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hetsyn_model.bank import BankWeights
from hetsyn_model.path import Delays
from hetsyn_model.spec import NetworkSpec
from hetsyn_model.state import Form, StateTensor
from hetsyn_model.synapse import ExactWeights


@dataclass(frozen=True)
class LayerWeights:
    """One layer in one form.

    Attributes:
        name: ``hidden1``, ``hidden2``, …, ``readout``.
        synapses: the synapses, exact or through a bank.
        kappa: decay a step of the reset current or of the membrane, [j]; None for a layer that has neither.
        threshold: theta, [j]; None for a layer that does not spike.
        recovery: of resonant neurons, decay of the recovery current and what membrane and spike add to it, [3, j].
        input_delays: of the spikes from the layer before; None without delays.
        recurrent_delays: of the layer's own spikes, likewise.
    """

    name: str
    synapses: ExactWeights | BankWeights
    kappa: Tensor | None
    threshold: Tensor | None
    recovery: Tensor | None = None
    input_delays: Delays | None = None
    recurrent_delays: Delays | None = None

    @property
    def bank(self) -> BankWeights:
        """The synapses of a layer in the bank form.

        Raises:
            ValueError: the layer is in the exact form.
        """
        if isinstance(self.synapses, BankWeights):
            return self.synapses
        raise ValueError(f"layer {self.name} is in the exact form: compile the network with form 'bank'")

    @property
    def exact(self) -> ExactWeights:
        """The synapses of a layer in the exact form.

        Raises:
            ValueError: the layer is in the bank form.
        """
        if isinstance(self.synapses, ExactWeights):
            return self.synapses
        raise ValueError(f"layer {self.name} is in the bank form: compile the network with form 'exact'")

    @property
    def neurons(self) -> int:
        return self.synapses.neurons

    @property
    def is_recurrent(self) -> bool:
        """Whether the layer has synapses from its own neurons."""
        synapses = self.synapses
        return (synapses.weight_rec if isinstance(synapses, BankWeights) else synapses.recurrent) is not None

    def detach(self) -> LayerWeights:
        inputs, recurrent = self.input_delays, self.recurrent_delays
        return LayerWeights(
            self.name,
            self.synapses.detach(),
            _detached(self.kappa),
            _detached(self.threshold),
            _detached(self.recovery),
            None if inputs is None else inputs.detach(),
            None if recurrent is None else recurrent.detach(),
        )


@dataclass(frozen=True)
class Compiled:
    """A network in one form. It changes nothing and is never changed.

    Attributes:
        spec: the network's description.
        form: ``exact``, a current a synapse, or ``bank``, K shared decays a layer.
        layers: in the order in which a step runs through them; differentiable in the network's parameters.
        layout: the state tensors of one stream, in the order of the artifact.
    """

    spec: NetworkSpec
    form: Form
    layers: tuple[LayerWeights, ...]
    layout: tuple[StateTensor, ...]

    @property
    def dtype(self) -> torch.dtype:
        return self.layers[0].synapses.dtype

    @property
    def device(self) -> torch.device:
        return self.layers[0].synapses.device

    def detach(self) -> Compiled:
        """The same values as constants, without gradients."""
        return replace(
            self,
            layers=tuple(layer.detach() for layer in self.layers),
        )


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()
