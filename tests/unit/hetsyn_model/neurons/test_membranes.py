"""Membranes, neurons with thresholds and kappa of their own, and files from before there were any."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.parity import Streams, run_torch
from hetsyn_model import DecisionSpec, Network, NetworkSpec, NeuronSpec
from hetsyn_model.spec import Reset
from hetsyn_model.state import FORMS, Form
from hetsyn_model.training.checkpoint import Checkpoint
from service.contract.folder import newest_artifact
from tests.support.networks.networks import KINDS, UNFILTERED, neuron_of, set_own
from tests.support.paths import MODELS

SHIPPED_FORMS = [
    (path.parent.parent.name, form)
    for path in sorted(MODELS.glob("*/*/network.pt"))
    for form in FORMS
    if path.with_name(f"{form}.onnx").exists()
]


def one_neuron(reset: Reset, threshold: float = 1.0, kappa: float = 0.5) -> Network:
    """An input, a neuron and a readout, all weights 1."""
    neuron = NeuronSpec(potential="membrane", reset=reset, decay_range=UNFILTERED)
    made = Network(NetworkSpec(1, (1,), 1, recurrent=False, neuron=neuron)).double()
    with torch.no_grad():
        for layer in made.named_layers().values():
            layer.w_in.fill_(1.0)
    hidden = made.layer("hidden1")
    assert hidden.threshold is not None
    assert hidden.kappa is not None
    hidden.threshold[:] = threshold
    hidden.kappa[:] = kappa
    return made


@pytest.mark.parametrize(
    ("reset", "spikes"),
    # the potential is 1, 1.5, then what a threshold of 1.25 leaves of 1.5, plus 1, and so on
    [("subtract", [0, 1, 0, 0, 1]), ("subtract_at_once", [0, 1, 0, 1, 0]), ("zero", [0, 1, 0, 1, 0])],
)
@torch.no_grad()
def test_resets_by_hand(reset: Reset, spikes: list[int]) -> None:
    """subtract: 1, 1.5, .5, 1.25, 1.625. At once: 1, 1.5, 1.125, 1.5625, 1.156. Zero: 1, 1.5, 1, 1.5, 1."""
    made = one_neuron(reset, threshold=1.25)
    for form in FORMS:
        rolled = made.rollout(torch.ones(1, 5, 1).double(), form)
        assert rolled.hidden_spikes[0].flatten().tolist() == spikes


@torch.no_grad()
def test_a_readouts_membrane_leaks() -> None:
    made = one_neuron("zero", threshold=0.5)
    readout = made.layer("readout")
    assert readout.threshold is None
    assert readout.kappa is not None
    readout.kappa[:] = 0.5
    rolled = made.rollout(torch.tensor([[[1.0], [0.0], [0.0], [1.0]]]).double(), "exact")
    assert rolled.readout.flatten().tolist() == [1.0, 0.5, 0.25, 1.125]


@pytest.mark.parametrize("kind", KINDS)
def test_neurons_own_values_are_saved(kind: str) -> None:
    spec = NetworkSpec(5, (4,), 3, bias=True, neuron=neuron_of(kind), decision=DecisionSpec("spike_count"))
    made = Network(spec)
    set_own(made, kind)
    loaded = Network.load(made.save())
    assert loaded.state_dict().keys() == made.state_dict().keys()
    for name, tensor in made.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_a_file_without_them_takes_the_descriptions() -> None:
    made = Network(NetworkSpec(5, (4,), 3, neuron=NeuronSpec(threshold=0.3, tau_reset_steps=7.0)))
    saved = dict(made.save())
    tensors = {name: tensor for name, tensor in made.state_dict().items() if not name.endswith(("threshold", "kappa"))}
    assert len(tensors) < len(made.state_dict())
    loaded = Network.load(saved | {"tensors": tensors})
    for name, tensor in made.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_a_threshold_is_rounded_once() -> None:
    """In float32, 0.3 is another number than in float64: a network that was float32 once must not keep it."""
    made = Network(NetworkSpec(5, (4,), 3, neuron=NeuronSpec(threshold=0.3))).float().bfloat16().double()
    thresholds = made.compile("exact").layers[0].threshold
    assert thresholds is not None
    assert thresholds.tolist() == [0.3] * 4
    assert made.float().compile("exact").layers[0].threshold.dtype == torch.float32  # type: ignore[union-attr]


@pytest.mark.parametrize(("model", "form"), SHIPPED_FORMS)
def test_shipped_networks_give_the_bits_that_they_gave(model: str, form: Form) -> None:
    """Their files are from before membranes; the golden traces are of that torch."""
    folder = newest_artifact(MODELS / model).folder
    network = Checkpoint.load(folder / "network.pt").network.eval()
    banks = dict(network.banks)
    with np.load(folder / "golden.npz") as golden:
        steps = np.minimum(golden["steps"][:2], 60)
        spikes = golden["spikes"][:2, : steps.max()].astype(np.float32)
        expected = golden[f"{form}.readout"][:2, : steps.max()]
    traces = run_torch(network.compile(form), Streams(torch.from_numpy(spikes), torch.from_numpy(steps)))
    inside = (np.arange(steps.max()) < steps[:, None])[..., None]
    assert traces.readout.tobytes() == np.where(inside, expected, 0).astype(np.float32).tobytes()
    assert network.banks == banks
