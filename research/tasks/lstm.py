"""An LSTM on the values of a step before their encoding in spikes: a network without spikes for comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from hetsyn_model.readout import decide
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.training.batch import Batch
from research.tasks.neurons import network_spec, parameter_count
from research.tasks.task import Shape


class SequenceLSTM(nn.Module):
    """One LSTM layer for each hidden layer of the task, and a linear readout.

    Args:
        features: values of a step.
        hidden: units of each LSTM layer.
        outputs: classes.
        dropout: probability with which a hidden value is left out in training.
        decision: how the readout becomes a decision.
        seed: of the initial weights.
    """

    def __init__(
        self,
        features: int,
        hidden: tuple[int, ...],
        outputs: int,
        dropout: float,
        decision: DecisionSpec | None = None,
        *,
        seed: int,
    ) -> None:
        super().__init__()
        self.sizes = (features, hidden, outputs, dropout)
        self.decision = decision or DecisionSpec("last")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(
                nn.LSTM(inputs, size, batch_first=True)
                for inputs, size in zip((features, *hidden[:-1]), hidden, strict=True)
            )
            self.readout = nn.Linear(hidden[-1], outputs)
        with torch.no_grad():
            for layer in self.layers:
                # gates that forget little at first; without it 784 steps are out of reach
                for bias in (layer.get_parameter("bias_ih_l0"), layer.get_parameter("bias_hh_l0")):
                    quarter = len(bias) // 4
                    bias[quarter : 2 * quarter].fill_(0.5)

    @staticmethod
    def of(shape: Shape, *, seed: int) -> SequenceLSTM:
        """The LSTM of a task, which decides by the last step unless the task gives it cells of its own."""
        decision = shape.decision if shape.lstm_hidden else DecisionSpec("last")
        hidden = shape.lstm_hidden or shape.hidden
        return SequenceLSTM(shape.features, hidden, shape.outputs, shape.dropout, decision, seed=seed)

    def run(self, batch: Batch) -> Rollout:
        """Run whole streams on the values before their encoding in spikes.

        Raises:
            ValueError: the batch has no such values.
        """
        if batch.analog is None:
            raise ValueError("the LSTM takes the values before their encoding in spikes, and this task has none")
        x = batch.analog
        for layer in self.layers:
            x, _ = layer(x)
            x = nn.functional.dropout(x, self.sizes[3], self.training)
        readout: Tensor = self.readout(x)
        return Rollout(readout, [], decide(self.decision, readout, batch.steps), batch.steps, self.decision)

    def save(self) -> Mapping[str, object]:
        return {"lstm": list(self.sizes), "tensors": self.state_dict()}

    def restore(self, saved: Mapping[str, object]) -> None:
        """Take the tensors from what :meth:`save` gave.

        Raises:
            ValueError: not something that ``save`` gave.
        """
        tensors = saved["tensors"]
        if not isinstance(tensors, Mapping):
            raise ValueError("not a result of SequenceLSTM.save(): tensors must be a mapping")
        self.load_state_dict(tensors)


def lstm_values(features: int, hidden: Sequence[int], outputs: int) -> int:
    """Values that training changes in a :class:`SequenceLSTM`; a gate has two biases."""
    inputs = (features, *hidden)
    gates = sum(4 * cells * (units + cells + 2) for units, cells in zip(inputs, hidden, strict=False))
    return gates + (hidden[-1] + 1) * outputs


@lru_cache
def with_equal_lstm(shape: Shape) -> Shape:
    """The same, with cells for an LSTM that has at most the trained values of the recurrent HetSyn network."""
    values = parameter_count(network_spec(shape, "hetsyn", recurrent=True, tau_steps=10.0))
    return replace(shape, lstm_hidden=lstm_hidden(shape.features, shape.hidden, shape.outputs, values))


def lstm_hidden(features: int, hidden: Sequence[int], outputs: int, values: int) -> tuple[int, ...]:
    """Cells of the largest LSTM with layers in the proportion of ``hidden`` and at most ``values`` trained values."""
    cells = wider = (1,) * len(hidden)
    width = 1
    while lstm_values(features, wider, outputs) <= values:
        cells = wider
        width += 1
        wider = tuple(max(1, round(width * neurons / max(hidden))) for neurons in hidden)
    return cells
