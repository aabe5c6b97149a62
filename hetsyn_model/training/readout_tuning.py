"""Fine-tunes the readout of a trained network on a few examples of the one who will use it.

The layers before the readout stay as they are, so what they send is computed once. The labels that a server names learn
against one another alone, because the outputs that refuse, such as other words, have no examples here. When the labels
learned against those outputs as well, the model named nearly every other word (``recipes/speech/README.md``).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hetsyn_model.compiled import Compiled
from hetsyn_model.network import Network
from hetsyn_model.rollout import rollout
from hetsyn_model.synapses.bank import compile_bank
from hetsyn_model.tensors import detached
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.loss import late_loss

READOUT = "readout"
VARIANTS = 4  # of each example, varied as in training


@dataclass(frozen=True)
class Tuning:
    """How a readout learns; the defaults are those of the study of commit 56160816, ``recipes/speech/adaptation.py``.

    Attributes:
        updates: of Adam, each on all examples.
        learning_rate: of Adam.
        pull: weight of the squared distance from the weights as they were, relative to the sum of their squares.
        smoothing: share of a label that is spread over all classes.
    """

    updates: int = 60
    learning_rate: float = 3e-3
    pull: float = 0.3
    smoothing: float = 0.05


@dataclass(frozen=True)
class Arrived:
    """What reaches the readout from a batch of streams.

    Attributes:
        spikes: of the last hidden layer, [streams, steps, neurons].
        steps: int64 [streams], length of each.
        target: int64 [streams], output of each.
    """

    spikes: Tensor
    steps: Tensor
    target: Tensor


class ReadoutTuning:
    """The readout of a network, by itself.

    Args:
        network: has fitted banks; it is not changed.
        named: outputs of the labels that a server names. All examples are of these.
    """

    def __init__(self, network: Network, named: Sequence[int]) -> None:
        self._network, self._named = network.eval(), list(named)
        layer = network.layer(READOUT)
        self._start = layer.w_in.detach().clone()
        self._weight = self._start.clone().requires_grad_()
        self._exact, self._bank = detached(layer.exact()), network.banks[READOUT]
        self._compiled = network.compile("bank").detach()
        self._spec = replace(network.spec, channels=network.spec.hidden[-1], input_kind="spikes")
        self._place = torch.tensor([self._named.index(o) if o in self._named else -1 for o in range(len(self._start))])

    @torch.no_grad()
    def hear(self, batch: Batch) -> Arrived:
        """Run the layers before the readout."""
        rolled = rollout(self._compiled, batch.events, batch.steps)
        return Arrived(rolled.hidden_spikes[-1], batch.steps, batch.target)

    def potential(self, arrived: Arrived) -> Tensor:
        """Compute the readout's potential, [streams, steps, outputs]."""
        exact = replace(self._exact, input=replace(self._exact.input, weight=self._weight))
        readout = replace(self._compiled.layers[-1], synapses=compile_bank(self._bank, exact))
        return rollout(Compiled(self._spec, "bank", (readout,)), arrived.spikes, arrived.steps).readout

    def learn(self, examples: Sequence[Arrived], how: Tuning) -> None:
        """Fine-tune the weights, beginning with the network's own."""
        with torch.no_grad():
            self._weight.copy_(self._start)
        optimiser = torch.optim.Adam([self._weight], lr=how.learning_rate)
        for _ in range(how.updates):
            optimiser.zero_grad()
            loss = how.pull * (self._weight - self._start).square().sum() / self._start.square().sum()
            for arrived in examples:
                among, target = self.potential(arrived)[..., self._named], self._place[arrived.target]
                loss = loss + late_loss(among, arrived.steps, target, how.smoothing) / len(examples)
            loss.backward()
            optimiser.step()

    def network(self) -> Network:
        """Return a copy of the network with the weights as they are now."""
        tuned = copy.deepcopy(self._network)
        with torch.no_grad():
            tuned.layer(READOUT).w_in.copy_(self._weight)
        return tuned
