"""The free bank: K decays that a layer shares and training leaves alone, and K free weights a synapse.

With K = 2 it trains as many values as HetSyn. It begins as the HetSyn network of its seed in a bank of these decays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from hetsyn_model.compiled import Compiled
from hetsyn_model.events import Events
from hetsyn_model.network import Network
from hetsyn_model.rollout import Rollout, rollout
from hetsyn_model.spec import NetworkSpec, decay_of
from hetsyn_model.state import Form, State, initial_state
from hetsyn_model.step import layers_step
from hetsyn_model.synapses.bank import Bank, BankWeights

SPREAD = 4.0  # time constants lie between a run's divided by it and times it


def spread_bank(tau_steps: float, size: int) -> Bank:
    """Choose K decays with time constants around one, in equal steps of their logarithm."""
    taus = [tau_steps * SPREAD ** (2 * k / (size - 1) - 1) for k in range(size)]
    return Bank(tuple(decay_of(tau) for tau in taus))


class SavedModule(nn.Module):
    """A module that saves and restores itself, as the training loop takes it."""

    def save(self) -> Mapping[str, object]:
        return {"tensors": self.state_dict()}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.load_state_dict(saved["tensors"])


class FreeBank(SavedModule):
    """A network of free banks.

    Args:
        network: untrained, of HetSyn; gives layers, neurons and first weights.
        bank: of every layer; at least two decays.
    """

    def __init__(self, network: Network, bank: Bank) -> None:
        super().__init__()
        network.banks = dict.fromkeys(network.spec.layer_names, bank)
        self.spec: NetworkSpec = network.spec
        self._like = network.compile("bank").detach()
        self.weights = nn.ParameterDict()
        for layer in self._like.layers:
            assert isinstance(layer.synapses, BankWeights)
            self.weights[f"{layer.name}-in"] = nn.Parameter(layer.synapses.weight_in.clone())
            if layer.synapses.weight_rec is not None:
                self.weights[f"{layer.name}-rec"] = nn.Parameter(layer.synapses.weight_rec.clone())

    @property
    def state_bytes(self) -> int:
        """Of one stream."""
        return 4 * sum(tensor.numel() for tensor in self.initial_state().values())

    def compile(self) -> Compiled:  # type: ignore[override]
        """Make the network ready to run, differentiable in its weights."""
        layers = []
        for layer in self._like.layers:
            own = {"weight_in": self.weights[f"{layer.name}-in"], "weight_rec": self.weights.get(f"{layer.name}-rec")}
            layers.append(replace(layer, synapses=replace(layer.synapses, **own)))
        return replace(self._like, layers=tuple(layers))

    def rollout(self, spikes: Tensor | Events, form: Form = "bank", steps: Tensor | None = None) -> Rollout:
        """Run whole streams, as :meth:`hetsyn_model.network.Network.rollout`; there is one form."""
        del form
        return rollout(self.compile(), spikes, steps, dropout=self.spec.dropout if self.training else 0.0)

    def initial_state(self) -> State:
        """Make the state of one stream, for :meth:`step`."""
        layers = [tensor for layer in self._like.layers for tensor in layer.layout()]
        return initial_state(layers, 1, self._like.dtype, self._like.device)

    def step(self, state: State, x: Tensor) -> tuple[State, Tensor]:
        """Run one step, [b, channels]; this is what ``export_step`` takes."""
        after, output = layers_step(self.compile(), state, x)
        return after, output.readout
