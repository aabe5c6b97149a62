"""The description of a whole network, also as a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from hetsyn_model.spec.decision import DecisionSpec
from hetsyn_model.spec.errors import SpecError, require
from hetsyn_model.spec.neuron import OWN_NEURONS, NeuronSpec
from hetsyn_model.spec.path import PathSpec
from hetsyn_model.spec.surrogate import SurrogateSpec

InputKind = Literal["spikes", "values"]
_PARTS: dict[str, type] = {
    "neuron": NeuronSpec,
    "surrogate": SurrogateSpec,
    "decision": DecisionSpec,
    "input_path": PathSpec,
    "recurrent_path": PathSpec,
}


@dataclass(frozen=True)
class NetworkSpec:
    """A whole network.

    Attributes:
        channels: possible spikes, or numbers, of an input step.
        hidden: neurons of each hidden layer.
        outputs: classes or traces.
        recurrent: hidden layers have synapses from their own neurons.
        self_recurrent: a neuron may have a synapse from itself.
        bias: each current has a constant drive.
        dropout: probability that a spike does not reach the next layer, in training.
        step_s: duration of a step.
        input_kind: ``spikes``, 0 or 1; or ``values``, real numbers x_i(t) that drive the synapses as w_ji x_i(t).
        input_path: delays of the spikes from the layer before, for hidden layers and the readout.
        recurrent_path: delays of a hidden layer's own spikes, beyond the one step that they always take.
    """

    channels: int
    hidden: tuple[int, ...]
    outputs: int
    recurrent: bool = True
    self_recurrent: bool = True
    bias: bool = False
    dropout: float = 0.0
    step_s: float = 1e-3
    neuron: NeuronSpec = field(default_factory=NeuronSpec)
    surrogate: SurrogateSpec = field(default_factory=SurrogateSpec)
    decision: DecisionSpec = field(default_factory=DecisionSpec)
    input_kind: InputKind = "spikes"
    input_path: PathSpec = field(default_factory=PathSpec)
    recurrent_path: PathSpec = field(default_factory=PathSpec)

    def __post_init__(self) -> None:
        for name, kind in _PARTS.items():
            part = getattr(self, name)
            require(
                isinstance(part, kind),
                f"{name}: a {type(part).__name__}: give one {kind.__name__}, which all layers have",
            )
        for name, value in (("channels", self.channels), ("outputs", self.outputs)):
            require(value >= 1, f"{name}: {value} is below 1")
        require(
            len(self.hidden) >= 1 and min(self.hidden) >= 1,
            f"hidden: {self.hidden} needs at least one layer of at least one neuron",
        )
        require(0 <= self.dropout < 1, f"dropout: {self.dropout} is not in [0, 1)")
        require(self.step_s > 0, f"step_s: {self.step_s} is not above 0")
        require(
            self.input_kind in get_args(InputKind), f"input_kind: {self.input_kind!r} is none of {get_args(InputKind)}"
        )
        require(
            not (self.takes_values and self.input_path.is_delayed),
            "input_path: only spikes have delays: take input_kind 'spikes', or leave max_delay_steps at 0",
        )
        require(
            self.recurrent or not self.recurrent_path.is_delayed,
            "recurrent_path: without recurrent synapses there is nothing to delay: leave max_delay_steps at 0",
        )

    @property
    def takes_values(self) -> bool:
        return self.input_kind == "values"

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Return ``hidden1``, ``hidden2``, …, ``readout``: the order in which a step runs through them."""
        return (*(f"hidden{index + 1}" for index in range(len(self.hidden))), "readout")

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> NetworkSpec:
        """Make a description of the values of :meth:`to_dict`, also after a trip through JSON.

        Raises:
            SpecError: a field is unknown or missing, or its value is out of range.
        """
        parts = dict(values)
        try:
            neuron = dict(parts.pop("neuron"))
            for pair in ("tau_init_steps", "decay_range"):
                neuron[pair] = tuple(neuron[pair])
            for name, own in OWN_NEURONS.items():
                if neuron.get(name) is not None:
                    found = {key: tuple(v) if isinstance(v, list) else v for key, v in neuron[name].items()}
                    neuron[name] = own(**found)
            return NetworkSpec(
                neuron=NeuronSpec(**neuron),
                surrogate=SurrogateSpec(**parts.pop("surrogate")),
                decision=DecisionSpec(**parts.pop("decision")),
                hidden=tuple(parts.pop("hidden")),
                input_path=PathSpec(**parts.pop("input_path", {})),
                recurrent_path=PathSpec(**parts.pop("recurrent_path", {})),
                **parts,
            )
        except SpecError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError) as error:  # another type, or not two ends
            raise SpecError(f"not a network description: {error}") from error
