"""Fine-tunes the readout of a trained network on a few examples of the one who will use it.

The layers before the readout stay as they are, so what they send is computed once. The labels that a server names learn
against one another alone: the outputs that refuse, such as other words, have no examples here. Against them, too, every
other word became one of the examples' (``recipes/speech/README.md``).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hetsyn_model.network import Network
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.loss import late_loss

READOUT = "readout"
VARIANTS = 4  # of each example, varied as in training


@dataclass(frozen=True)
class Tuning:
    """How a readout learns; the defaults are those of the study in ``recipes/speech/adaptation.py``.

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
        currents: of a synapse of weight 1 from each neuron, through each decay of the bank,
            [streams, steps, decays * neurons].
        steps: int64 [streams], length of each.
        target: int64 [streams], output of each.
    """

    currents: Tensor
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
        layer, bank = network.named_layers()[READOUT], network.banks[READOUT]
        self._start = layer.get_parameter("w_in").detach().clone()
        self._weight = self._start.clone().requires_grad_()
        self._decays = torch.tensor(bank.decays, dtype=self._start.dtype)
        self._coefficients = bank.coefficients(layer.get_parameter("r_in").detach()).to(self._start.dtype)
        self._place = torch.tensor([self._named.index(o) if o in self._named else -1 for o in range(len(self._start))])

    @torch.no_grad()
    def hear(self, batch: Batch) -> Arrived:
        """Run the layers before the readout."""
        spikes = self._network.rollout(batch.events, "bank", batch.steps).hidden_spikes[-1]
        currents = torch.empty(*spikes.shape[:2], len(self._decays), spikes.shape[2])
        now = torch.zeros(currents.shape[0], *currents.shape[2:])
        for step in range(spikes.shape[1]):
            now = self._decays.unsqueeze(-1) * now + spikes[:, step].unsqueeze(1)
            currents[:, step] = now
        return Arrived(currents.flatten(2), batch.steps, batch.target)

    def potential(self, arrived: Arrived) -> Tensor:
        """Compute the readout's potential, [streams, steps, outputs]."""
        weights = (self._weight.unsqueeze(-1) * self._coefficients).transpose(1, 2).flatten(1)
        return arrived.currents @ weights.T

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
            tuned.named_layers()[READOUT].get_parameter("w_in").copy_(self._weight)
        return tuned
