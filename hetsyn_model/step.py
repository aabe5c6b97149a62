"""One step of a whole network, as a pure function.

    step(compiled, state, spikes) -> (state, output)

Of each layer: what arrives now (``path.py``), the currents (equation 8 of arXiv 2508.11644, ``synapse.py`` and
``bank.py``), then reset, potential and spikes (equations 9, 5 and 4, ``spike.py``; of resonant neurons,
``resonance.py``). The readout then updates the decision (``readout.py``). This is the definition: torch makes the ONNX
graph and TorchScript of it (``export/network_step.py``, ``export/torchscript.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import dropout as drop

from hetsyn_model.compiled import Compiled, LayerWeights
from hetsyn_model.path import Delays, push
from hetsyn_model.readout import decision_step
from hetsyn_model.resonance import resonance_step
from hetsyn_model.spec import SurrogateSpec
from hetsyn_model.spike import spike_step
from hetsyn_model.state import State, state_name

Sources = dict[str, list[Tensor]]  # what went into a path with delays, [b, units] of each step, by its history's name


@dataclass(frozen=True)
class StepOutput:
    """What a step of a batch shows.

    Attributes:
        readout: [b, outputs], potential of the output layer.
        hidden_spikes: one [b, j] a hidden layer, 0 or 1.
    """

    readout: Tensor
    hidden_spikes: list[Tensor]


def step(
    compiled: Compiled,
    state: State,
    spikes: Tensor,
    surrogate: SurrogateSpec | None = None,
    dropout: float = 0.0,
    sources: Sources | None = None,
) -> tuple[State, StepOutput]:
    """Run one step of all layers and of the decision; arguments as of :func:`layers_step`."""
    after, output = layers_step(compiled, state, spikes, surrogate, dropout, sources)
    decision = compiled.spec.decision
    decided_by = after[state_name("readout", "spikes")] if decision.counts_spikes else output.readout
    return after | decision_step(decision, state, decided_by), output


def layers_step(
    compiled: Compiled,
    state: State,
    spikes: Tensor,
    surrogate: SurrogateSpec | None = None,
    dropout: float = 0.0,
    sources: Sources | None = None,
) -> tuple[State, StepOutput]:
    """Run one step of all layers.

    Args:
        compiled: the network in one form.
        state: every tensor of ``compiled.layout``, with a leading batch axis.
        spikes: [b, channels], the input of this step.
        surrogate: derivative of the threshold in training; None outside training.
        dropout: probability with which a spike does not reach the next layer, in training.
        sources: of training, which this step's are added to. With them delays are differentiable, and the histories in
            the state are left alone.

    Returns:
        The layers' state after the step, and its output.
    """
    spec = compiled.spec
    after: State = {}
    hidden: list[Tensor] = []
    x, potential = spikes, spikes
    for layer in compiled.layers:
        x, own = _arriving(layer, state, after, x, sources)
        currents, potential = layer.synapses.step(layer.name, state, x, own)
        after.update(currents)
        if layer.kappa is None:
            continue
        kept = state_name(layer.name, "membrane" if spec.neuron.is_membrane else "reset_current")
        if layer.threshold is None:  # a readout's membrane
            potential = after[kept] = layer.kappa * state[kept] + potential
            continue
        adaptation = None
        if layer.recovery is not None:
            recovery = state_name(layer.name, "recovery")
            potential, fired, after[recovery] = resonance_step(
                potential,
                state[state_name(layer.name, "spikes")],
                state[kept],
                state[recovery],
                layer.kappa,
                layer.recovery,
                layer.threshold,
                surrogate,
            )
            after[kept] = potential
        else:
            potential, fired, after[kept], adaptation = spike_step(
                potential,
                state[state_name(layer.name, "spikes")],
                state[kept],
                state.get(state_name(layer.name, "adaptation_current")),
                layer.kappa,
                layer.threshold,
                spec.neuron,
                surrogate,
            )
        after[state_name(layer.name, "spikes")] = fired
        if adaptation is not None:
            after[state_name(layer.name, "adaptation_current")] = adaptation
        x = drop(fired, dropout) if dropout else fired
        if layer.name != "readout":
            hidden.append(fired)
    return after, StepOutput(potential, hidden)


def _arriving(
    layer: LayerWeights, state: State, after: State, x: Tensor, sources: Sources | None
) -> tuple[Tensor, Tensor | None]:
    """Spikes that arrive from the layer before, and from the layer itself; the histories after this step."""
    own = state[state_name(layer.name, "spikes")] if layer.is_recurrent else None
    if layer.input_delays is not None:
        x = _delayed(layer.input_delays, state_name(layer.name, "input_history"), state, after, x, sources)
    if layer.recurrent_delays is not None and own is not None:
        name = state_name(layer.name, "recurrent_history")
        own = _delayed(layer.recurrent_delays, name, state, after, own, sources)
    return x, own


def _delayed(delays: Delays, name: str, state: State, after: State, x: Tensor, sources: Sources | None) -> Tensor:
    if sources is not None:
        after[name] = state[name]
        sources.setdefault(name, []).append(x)
        return delays.of_sources(sources[name])
    after[name] = push(state[name], x)
    return delays.arrivals(state[name], x)
