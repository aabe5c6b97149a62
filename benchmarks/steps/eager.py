"""Today's alternative: a HetSynLIF network step by step in eager PyTorch, one current a synapse, float32.

The equations of docs/explanation/model.md written down as one would without this project: every current is decayed and
added to at every step, and summed over a neuron's synapses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hetsyn_model import Network
from hetsyn_model.synapses.synapse import ExactWeights

State = dict[str, Tensor]


@dataclass(frozen=True)
class _Path:
    weight: Tensor  # [neurons, inputs]
    decay: Tensor
    current: str


class EagerLoop:
    """A recurrent network with a decision that sums the softmax of its readout.

    Raises:
        ValueError: it is another kind of network.
    """

    def __init__(self, network: Network) -> None:
        spec = network.spec
        if spec.decision.rule != "sum_softmax" or spec.bias or spec.neuron.adaptive:
            raise ValueError("the eager loop has neither biases, adaptation nor another rule than sum_softmax")
        self.spec = spec
        self.layers: list[tuple[list[_Path], Tensor | None, str]] = []
        for layer in network.compile("exact").layers:
            synapses = layer.synapses
            assert isinstance(synapses, ExactWeights)
            assert synapses.per_synapse
            paths = [_Path(synapses.input.weight, synapses.input.decay, f"{layer.name}.input")]
            if synapses.recurrent is not None:
                paths.append(_Path(synapses.recurrent.weight, synapses.recurrent.decay, f"{layer.name}.recurrent"))
            self.layers.append((paths, layer.kappa, layer.name))

    def initial(self, batch: int) -> State:
        state: State = {"score": torch.zeros(batch, self.spec.outputs)}
        for paths, reset_decay, name in self.layers:
            for path in paths:
                state[path.current] = torch.zeros(batch, *path.weight.shape)
            if reset_decay is not None:
                state[f"{name}.reset"] = state[f"{name}.spikes"] = torch.zeros(batch, paths[0].weight.shape[0])
        return state

    @torch.no_grad()
    def run(self, spikes: Tensor, state: State, first_step: int, *, in_place: bool = False) -> tuple[State, Tensor]:
        """Run a chunk [batch, steps, channels]. Returns the state after it and the readout [batch, steps, outputs].

        Args:
            in_place: overwrite the currents of ``state``, for speed.
        """
        state, readout = dict(state), []
        threshold = self.spec.neuron.threshold
        for t in range(spikes.shape[1]):
            x = spikes[:, t]
            for paths, reset_decay, name in self.layers:
                potential = torch.zeros(())
                for path in paths:
                    source = x if path.current.endswith(".input") else state[f"{name}.spikes"]
                    if in_place:
                        current = state[path.current].mul_(path.decay).addcmul_(path.weight, source.unsqueeze(1))
                    else:
                        current = path.decay * state[path.current] + path.weight * source.unsqueeze(1)
                        state[path.current] = current
                    potential = potential + current.sum(-1)
                if reset_decay is not None:
                    reset = reset_decay * state[f"{name}.reset"] + threshold * state[f"{name}.spikes"]
                    potential = potential - reset
                    x = (potential > threshold).float()
                    state[f"{name}.reset"], state[f"{name}.spikes"] = reset, x
            if first_step + t >= self.spec.decision.skip_steps:
                state["score"] = state["score"] + torch.softmax(potential, -1)
            readout.append(potential)
        return state, torch.stack(readout, 1)
