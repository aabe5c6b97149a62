"""The network: its learned tensors, and one step of all of it as a pure function.

    step(weights, state, spikes) -> (state, output)

The exact and the bank form are two views of the same tensors, with one code path behind both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hetsyn_model.bank import Bank, BankWeights, compile_bank, fit_bank, kernel_error
from hetsyn_model.readout import decision_step
from hetsyn_model.spec import NetworkSpec, SurrogateSpec, decay_of
from hetsyn_model.spike import spike_step
from hetsyn_model.state import Form, State, StateTensor, state_layout
from hetsyn_model.synapse import ExactWeights

if TYPE_CHECKING:
    from hetsyn_model.events import Events
    from hetsyn_model.rollout import Rollout

ERROR_BOUND = 1e-3  # of a kernel, where a bank's size is not given


@dataclass(frozen=True)
class LayerWeights:
    """A layer ready to run: its synapses in one form, and the reset decay [neurons] if it spikes."""

    name: str
    synapses: ExactWeights | BankWeights
    reset_decay: Tensor | None


@dataclass(frozen=True)
class StepOutput:
    """readout: [b, outputs] output potential; hidden_spikes: one [b, neurons] a hidden layer."""

    readout: Tensor
    hidden_spikes: list[Tensor]


class Layer(nn.Module):
    """Learned tensors of one layer: weights [j, i] and decays of its input and recurrent synapses."""

    def __init__(
        self,
        spec: NetworkSpec,
        inputs: int,
        neurons: int,
        *,
        recurrent: bool,
        spiking: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.spec, self.inputs, self.neurons, self.spiking = spec, inputs, neurons, spiking
        self.w_in, self.r_in, self.b_in = self._path(inputs, generator)
        self.w_rec: nn.Parameter | None = None
        self.r_rec: nn.Parameter | None = None
        self.b_rec: nn.Parameter | None = None
        if recurrent:
            self.w_rec, r_rec, self.b_rec = self._path(neurons, generator)
            self.r_rec = None if spec.neuron.tied else r_rec
            with torch.no_grad():
                self.w_rec.mul_(0.5)  # recurrence starts weaker than the input, or activity runs away
                if not spec.self_recurrent:
                    self.w_rec.fill_diagonal_(0.0)

    def _path(self, inputs: int, generator: torch.Generator) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter | None]:
        neuron = self.spec.neuron
        low, high = neuron.tau_init_steps
        shape = {"synapse": (self.neurons, inputs), "neuron": (self.neurons, 1), "shared": (1, 1)}[neuron.decays]
        tau = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
        # a current of time constant tau adds up some tau/2 squared weights of each input that fires; at one
        # input in twenty this brings potentials to two thirds of the threshold, so that some neurons fire at first
        scale = neuron.threshold / (1.5 * math.sqrt(1.0 + inputs * 0.05 * (low + high) / 4))
        weight = scale * torch.randn(self.neurons, inputs, generator=generator, dtype=torch.float64)
        bias_shape = (self.neurons, inputs) if neuron.decays == "synapse" else (self.neurons, 1)
        bias = nn.Parameter(torch.zeros(bias_shape)) if self.spec.bias else None
        return (
            nn.Parameter(weight.float()),
            nn.Parameter(torch.exp(-1.0 / tau).float(), requires_grad=neuron.learn_decays),
            bias,
        )

    def exact(self) -> ExactWeights:
        w_rec: Tensor | None = self.w_rec
        if w_rec is not None and not self.spec.self_recurrent:
            w_rec = w_rec * (1 - torch.eye(self.neurons, dtype=w_rec.dtype))
        r_rec = None if w_rec is None else self.r_in if self.spec.neuron.tied else self.r_rec
        return ExactWeights(
            self.spec.neuron.decays == "synapse", self.w_in, self.r_in, self.b_in, w_rec, r_rec, self.b_rec
        )

    def reset_decay(self) -> Tensor | None:
        """kappa, [neurons]; None for a layer that does not spike."""
        if not self.spiking:
            return None
        if self.spec.neuron.tied:
            return self.r_in[:, 0].expand(self.neurons)
        return torch.full((self.neurons,), decay_of(self.spec.neuron.tau_reset_steps), dtype=self.w_in.dtype)

    def decays(self) -> Tensor:
        """Every decay of the layer's synapses, [count]."""
        return torch.cat([r.detach().flatten() for r in (self.r_in, self.r_rec) if r is not None])


class Network(nn.Module):
    """A HetSyn network, from its description and a seed.

    Args:
        spec: what the network is.
        seed: of the initial weights and decays.
    """

    def __init__(self, spec: NetworkSpec, *, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.banks: dict[str, Bank] = {}
        generator = torch.Generator().manual_seed(seed)
        sizes = (spec.channels, *spec.hidden, spec.outputs)
        self.layers = nn.ModuleList(
            Layer(
                spec,
                sizes[index],
                sizes[index + 1],
                generator=generator,
                recurrent=spec.recurrent and index < len(spec.hidden),
                spiking=index < len(spec.hidden) or spec.decision.rule == "spike_count",
            )
            for index in range(len(sizes) - 1)
        )

    def layer(self, name: str) -> Layer:
        found = self.layers[self.spec.layer_names.index(name)]
        assert isinstance(found, Layer)
        return found

    def fit_banks(self, *, size: int | None = None, error_bound: float = ERROR_BOUND) -> dict[str, float]:
        """Fit every layer's bank to its own decays, and return each one's kernel error.

        Raises:
            BankError: no allowed size meets the bound.
        """
        self.banks = {
            name: fit_bank(self.layer(name).decays(), size=size, error_bound=error_bound)
            for name in self.spec.layer_names
        }
        return self.kernel_errors()

    def kernel_errors(self) -> dict[str, float]:
        """Relative L2 error of the worst kernel of each layer's bank, for the decays as they are now."""
        return {name: kernel_error(bank, self.layer(name).decays()) for name, bank in self.banks.items()}

    def weights(self, form: Form) -> list[LayerWeights]:
        """The layers in one form, in the order of a step; differentiable."""
        if form == "bank" and not self.banks:
            self.fit_banks()
        compiled = []
        for name in self.spec.layer_names:
            layer = self.layer(name)
            synapses: ExactWeights | BankWeights = layer.exact()
            if form == "bank":
                synapses = compile_bank(self.banks[name], layer.exact())
            compiled.append(LayerWeights(name, synapses, layer.reset_decay()))
        return compiled

    def state_layout(self, form: Form) -> tuple[StateTensor, ...]:
        """State tensors of one stream in this form."""
        if form == "bank" and not self.banks:
            self.fit_banks()
        return state_layout(self.spec, form, {name: bank.size for name, bank in self.banks.items()})

    @torch.no_grad()
    def clamp_decays_(self) -> None:
        """Bring every learned decay back into its range; call it after each optimiser step."""
        for name, parameter in self.named_parameters():
            if name.rsplit(".", 1)[-1].startswith("r_"):
                parameter.clamp_(*self.spec.neuron.decay_range)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def rollout(self, spikes: Tensor | Events, form: Form = "bank", steps: Tensor | None = None) -> Rollout:
        """Run whole streams from their initial state; see :func:`hetsyn_model.rollout.rollout`.

        Args:
            spikes: float [batch, steps, channels], or the same as events.
            form: ``exact``, a current a synapse, or ``bank``, K shared decays a layer.
            steps: int64 [batch], length of each stream where they differ.
        """
        from hetsyn_model.rollout import rollout

        return rollout(self, spikes, form, steps)

    def save(self) -> Mapping[str, object]:
        """All that :meth:`load` needs, as plain values and tensors."""
        return {
            "spec": self.spec.to_dict(),
            "banks": {name: list(bank.decays) for name, bank in self.banks.items()},
            "tensors": self.state_dict(),
        }

    @staticmethod
    def load(saved: Mapping[str, object]) -> Network:
        """Inverse of :meth:`save`.

        Raises:
            ValueError: not something that ``save`` gave, or of another network.
        """
        spec, banks, tensors = saved["spec"], saved["banks"], saved["tensors"]
        if not (isinstance(spec, Mapping) and isinstance(banks, Mapping) and isinstance(tensors, Mapping)):
            raise ValueError("not what Network.save() gave: spec, banks and tensors are mappings")
        network = Network(NetworkSpec.from_dict(spec)).to(next(iter(tensors.values())).dtype)
        network.load_state_dict(tensors)
        network.banks = {name: Bank(tuple(decays)) for name, decays in banks.items()}
        return network


def step(
    spec: NetworkSpec,
    weights: Sequence[LayerWeights],
    state: State,
    spikes: Tensor,
    surrogate: SurrogateSpec | None = None,
    dropout: float = 0.0,
) -> tuple[State, StepOutput]:
    """One step of the whole network, pure.

    Args:
        weights: :meth:`Network.weights` of the form that the state has.
        state: every tensor of the form's layout, with a leading batch axis.
        spikes: [b, channels] of this step.
        surrogate: None outside training.
        dropout: probability with which a spike does not reach the next layer, in training.
    """
    after: State = {}
    hidden: list[Tensor] = []
    x, potential, fired = spikes, spikes, None
    for layer in weights:
        before = state.get(f"{layer.name}.spikes")
        currents, potential = layer.synapses.step(layer.name, state, x, before)
        after.update(currents)
        if layer.reset_decay is None:
            continue
        assert before is not None
        potential, fired, reset, adaptation = spike_step(
            potential,
            before,
            state[f"{layer.name}.reset_current"],
            state.get(f"{layer.name}.adaptation_current"),
            layer.reset_decay,
            spec.neuron,
            surrogate,
        )
        after |= {f"{layer.name}.reset_current": reset, f"{layer.name}.spikes": fired}
        if adaptation is not None:
            after[f"{layer.name}.adaptation_current"] = adaptation
        x = torch.nn.functional.dropout(fired, dropout) if dropout else fired
        if layer.name != "readout":
            hidden.append(fired)
    after["decision.score"], after["decision.step"] = decision_step(
        spec.decision,
        state["decision.score"],
        state["decision.step"],
        potential,
        fired if spec.decision.rule == "spike_count" else None,
    )
    return after, StepOutput(potential, hidden)
