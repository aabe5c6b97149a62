"""The formulas of ``export.inspection.operations`` against a network that counts what it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export.evaluation import Evaluation, seeded_streams
from export.graphs.network_graph import network_graph
from export.inspection.activity import Measured, measure
from export.inspection.graph_weights import read_tensors
from export.inspection.operations import count, work_of_network
from export.own_network import Source, write_artifact
from export.parity import run_torch
from hetsyn_model import DecisionSpec, Network, NetworkSpec
from hetsyn_model.compiled import Compiled
from hetsyn_model.rollout import rollout
from hetsyn_model.spec import Rule, decay_of
from hetsyn_model.state import FORMS, Form
from service.contract.artifact import Artifact
from service.contract.manifest import TensorDescription
from tests.support.networks.counted_network import CountedNetwork
from tests.support.networks.networks import CASES, neuron_of, set_own
from tests.support.pairs import in_pairs

CHANNELS, OUTPUTS, STEPS, MOST_SILENT_STEPS = 7, 3, 30, 400
SIZES = {"hidden1": 6, "hidden2": 5, "readout": OUTPUTS}
COUNTED = [case for case in CASES if neuron_of(case[0]).own_name in (None, "resonance")]  # others are not counted


def network_of(kind: str, rule: Rule = "last", *, recurrent: bool = True, bias: bool = False) -> Network:
    spec = NetworkSpec(
        channels=CHANNELS, hidden=(6, 5), outputs=OUTPUTS, neuron=neuron_of(kind), recurrent=recurrent, bias=bias,
        self_recurrent=False, decision=DecisionSpec(rule=rule),
    )  # fmt: skip
    network = Network(spec, seed=3)
    set_own(network, kind)
    with torch.no_grad():
        for layer in network.named_layers().values():
            layer.w_in.abs_().mul_(1.5)
            layer.w_in[0, 0] = 0.0  # a connection that is none
            for drive in (layer.b_in, layer.b_rec):
                if drive is not None:
                    drive.fill_(-0.01)
    return network


def check(compiled: Compiled, rate: float) -> dict[str, np.ndarray]:
    """Count a stream, compare its spikes and potentials with torch's, and its operations with the formula.

    A spike acts on its own layer in the next step. So the stream goes on until a step has none.

    Returns:
        How often each unit fired, by source.
    """
    neuron = compiled.spec.neuron
    tensors = {n.rpartition("/")[2]: a for n, a in read_tensors(network_graph(compiled)).items()}
    layout = [each for each in compiled.layout if not each.name.startswith("decision.")]
    counted = CountedNetwork(
        tensors, {each.name: each.shape for each in layout}, list(SIZES), reset=neuron.reset,
        threshold=neuron.threshold,
        adaptation=(decay_of(neuron.adaptation_tau_steps), neuron.adaptation_strength),
    )  # fmt: skip
    spikes = torch.zeros(1, STEPS + MOST_SILENT_STEPS, CHANNELS)
    spikes[:, :STEPS] = (torch.rand(1, STEPS, CHANNELS, generator=torch.Generator().manual_seed(5)) < rate).float()
    with torch.no_grad():
        rolled = rollout(compiled, spikes)
    tolerance = 1e-5 * max(10.0, float(rolled.readout.abs().max()))  # torch rounds to float32, this does not
    fired = {"input": spikes[0].sum(0).numpy()} | {name: np.zeros(neurons) for name, neurons in SIZES.items()}
    for t in range(STEPS + MOST_SILENT_STEPS):
        layers, potential = counted.step(np.flatnonzero(spikes[0, t]).tolist())
        for name, neurons in zip(SIZES, layers, strict=True):
            fired[name][neurons] += 1
        for hidden, neurons in zip(rolled.hidden_spikes, layers, strict=False):
            assert np.flatnonzero(hidden[0, t]).tolist() == neurons
        assert potential == pytest.approx(rolled.readout[0, t].tolist(), abs=tolerance)
        if t >= STEPS and not any(layers):
            break
    else:
        pytest.fail("the network does not become silent: the formula has spikes that no step follows")
    steps, tally = t + 1, counted.tally
    described = [TensorDescription(name=e.name, shape=e.shape, dtype=e.dtype, initial=e.initial) for e in layout]
    work = work_of_network(tensors, described, SIZES, CHANNELS)
    expected = count(work, {name: spiked / steps for name, spiked in fired.items()})
    assert steps * expected.effective_acs == pytest.approx(tally.accumulates)
    assert steps * expected.additions == pytest.approx(tally.additions)
    assert steps * expected.multiplications == tally.multiplications
    assert steps * expected.scalings == tally.scalings
    assert steps * expected.weight_bytes_read == pytest.approx(tally.weight_bytes)
    assert steps * expected.state_bytes_read == tally.state_bytes_read
    assert steps * expected.state_bytes_written == tally.state_bytes_written
    assert expected.dense == sum(array.size for name, array in tensors.items() if ".weight_" in name)
    assert expected.effective_macs == 0
    return fired


@pytest.mark.parametrize(("kind", "rule", "form"), in_pairs((*case, form) for case in COUNTED for form in FORMS))
def test_the_formula_counts_what_a_step_does(kind: str, rule: Rule, form: Form) -> None:
    network = network_of(kind, rule)
    network.fit_banks()
    fired = check(network.compile(form), 0.4)
    assert all(fired[name].any() for name in ("input", "hidden1", "hidden2")), "nothing fires: nothing was counted"


@pytest.mark.parametrize(
    ("kind", "form", "recurrent", "bias"),
    in_pairs(
        (kind, form, *others)
        for kind in ("hetsyn", "hetneu", "lif", "hetsyn-membrane")
        for form in FORMS
        for others in ((False, False), (True, True))
    ),
)
def test_so_it_does_with_biases_and_without_recurrence(kind: str, form: Form, recurrent: bool, bias: bool) -> None:
    network = network_of(kind, recurrent=recurrent, bias=bias)
    network.fit_banks()
    check(network.compile(form), 0.4)


def test_the_spikes_that_inspect_counts_are_those_of_torch(tmp_path: Path) -> None:
    network = network_of("hetsyn", "spike_count")
    network.fit_banks()
    streams = seeded_streams(CHANNELS, 0.4, streams=4, steps=40)
    source, steps = Source(network, "tiny", "1", "", ("a", "b", "c"), ""), int(streams.steps.sum())
    for form in FORMS:
        write_artifact(source, Evaluation(streams), tmp_path / form / "1", form=form, with_torchscript=False)
        measured = measure(Artifact.open(tmp_path / form / "1"))
        assert isinstance(measured, Measured)
        assert (measured.streams, measured.steps) == (4, steps)
        traces = run_torch(network.compile(form), streams)
        for name, hidden in zip(SIZES, traces.hidden, strict=False):
            assert measured.rates[name] == pytest.approx(hidden.sum((0, 1)) / steps)
        outputs = rollout(network.compile(form), streams.spikes, streams.steps).scores.detach().numpy().sum(0)
        assert outputs.any()
        assert measured.rates["readout"] == pytest.approx(outputs / steps)
