"""One step of a whole network, as a pure function.

    step(compiled, state, spikes) -> (state, output)

Of each layer: the currents (equation 8 of arXiv 2508.11644, ``synapse.py`` and ``bank.py``), then reset, potential and
spikes (equations 9, 5 and 4, ``spike.py``; of resonant neurons, ``resonance.py``). The readout then updates the
decision (``readout.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import dropout as drop

from hetsyn_model.compiled import Compiled
from hetsyn_model.readout import decision_step
from hetsyn_model.resonance import resonance_step
from hetsyn_model.spec import SurrogateSpec
from hetsyn_model.spike import spike_step
from hetsyn_model.state import State, state_name


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
) -> tuple[State, StepOutput]:
    """One step of all layers.

    Args:
        compiled: the network in one form.
        state: every tensor of ``compiled.layout``, with a leading batch axis.
        spikes: [b, channels], the input of this step.
        surrogate: derivative of the threshold in training; None outside training.
        dropout: probability with which a spike does not reach the next layer, in training.

    Returns:
        The state after the step, and its output.
    """
    spec = compiled.spec
    after: State = {}
    hidden: list[Tensor] = []
    x, potential, fired = spikes, spikes, spikes
    for layer in compiled.layers:
        currents, potential = layer.synapses.step(layer.name, state, x)
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
    after |= decision_step(spec.decision, state, fired if spec.decision.counts_spikes else potential)
    return after, StepOutput(potential, hidden)
