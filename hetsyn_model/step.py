"""One step of a whole network, as a pure function.

    step(compiled, state, spikes) -> (state, output)

A layer (``compiled.py``) is a path, synapses and neurons, each an object with a state and a step: what arrives now
(``path.py``), the currents (equation 8 of arXiv 2508.11644, ``synapse.py`` and ``bank.py``), then reset, potential and
spikes (equations 9, 5 and 4, ``spike.py``; of resonant neurons, ``resonance.py``). The readout then updates the
decision (``readout.py``). This is the definition. Torch makes all of TorchScript of it, and of ONNX the layers
(``export/graphs/torchscript.py``, ``export/graphs/network_step.py``). Written by hand in ONNX are the decision, 20
nodes that cells share, and the loop over a chunk's steps (``decision_graph.py``, ``scan.py``). Each export compares
them with this step.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hetsyn_model.compiled import Compiled
from hetsyn_model.readout import decision_step
from hetsyn_model.state import State, state_name


@dataclass(frozen=True)
class StepOutput:
    """The output of a batch's step.

    Attributes:
        readout: [b, outputs], potential of the output layer.
        hidden_spikes: one [b, j] a hidden layer, 0 or 1.
    """

    readout: Tensor
    hidden_spikes: list[Tensor]


def step(compiled: Compiled, state: State, spikes: Tensor) -> tuple[State, StepOutput]:
    """Run one step of all layers and of the decision. Arguments as :func:`layers_step`."""
    after, output = layers_step(compiled, state, spikes)
    decision = compiled.spec.decision
    decided_by = after[state_name("readout", "spikes")] if decision.counts_spikes else output.readout
    return after | decision_step(decision, state, decided_by), output


def layers_step(compiled: Compiled, state: State, spikes: Tensor) -> tuple[State, StepOutput]:
    """Run one step of all layers.

    Args:
        compiled: the network in one form.
        state: every tensor of ``compiled.layout``, with a leading batch axis.
        spikes: [b, channels], the input of this step.

    Returns:
        The layers' state after the step, and its output.
    """
    after: State = {}
    hidden: list[Tensor] = []
    x, potential = spikes, spikes
    for layer in compiled.layers:
        kept, potential = layer.step(state, x)
        after |= kept
        if layer.name != "readout":
            x = after[state_name(layer.name, "spikes")]
            hidden.append(x)
    return after, StepOutput(potential, hidden)
