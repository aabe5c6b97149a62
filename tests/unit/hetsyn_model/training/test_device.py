"""Training makes every tensor on the network's device. torch's meta device, which has no memory, shows it anywhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hetsyn_model import DecisionSpec, Events, Network, NetworkSpec, NeuronSpec, initial_state, variant
from hetsyn_model.state import Form
from hetsyn_model.step import step
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.encoding.front import AudioFront
from hetsyn_model.training.fitting import DeviceError, torch_device
from hetsyn_model.training.labelled import LabelledData, LabelledSplit
from hetsyn_model.training.loop import Optimisation, _follow, _optimiser, _update
from tests.support.data.words import AUGMENT, ENCODER, TRAIN

SPEC = NetworkSpec(channels=6, hidden=(5, 4), outputs=3, dropout=0.1, bias=True, self_recurrent=False)
SPECS = {
    "hetsyn": SPEC,
    "hetneu": replace(SPEC, neuron=variant("hetneu")),
    "homneu": replace(SPEC, neuron=variant("homneu"), recurrent=False),
    "alif": replace(SPEC, neuron=variant("alif")),
    "spike_count": replace(SPEC, decision=DecisionSpec("spike_count", skip_steps=2)),
    "zero": replace(SPEC, neuron=NeuronSpec(potential="membrane", reset="zero", decay_range=(0.0, 0.9))),
    "last": replace(SPEC, decision=DecisionSpec("last"), neuron=NeuronSpec(decay_range=(0.0, 0.9))),
}


class OnlyMeta(TorchDispatchMode):
    """Refuses every operation that makes a tensor elsewhere than on the meta device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta":
                raise AssertionError(f"{func} makes a tensor {tuple(tensor.shape)} on {tensor.device}")
        return out


def on_meta(network: Network) -> Network:
    """The network on the meta device; its banks, which need values, are fitted before."""
    network.fit_banks(size=3, hold=True)
    return network.to("meta")


def batch_of(spec: NetworkSpec) -> Batch:
    spikes = torch.rand(2, 7, spec.channels, generator=torch.Generator().manual_seed(0)) < 0.3
    return Batch(Events.of(spikes), torch.tensor([7, 5]), torch.tensor([0, 2])).to("meta")


def train_a_step(data: LabelledData[Any], network: Network, batch: Batch) -> None:
    how = Optimisation(1, 1, 1e-3, lambda _: 1.0, 3)
    optimiser = _optimiser(network, how)
    network.train()
    with OnlyMeta():  # type: ignore[no-untyped-call]
        rolled = data.forward(network, batch)
        loss = data.loss(rolled, batch)
        measured = data.measure(rolled, batch)
        loss.backward()
    assert {loss.device.type, *(values.device.type for values in measured.values())} == {"meta"}
    gradients = [parameter.grad for parameter in network.parameters() if parameter.requires_grad]
    assert gradients
    assert all(gradient is not None and gradient.device.type == "meta" for gradient in gradients)
    # the optimiser's own counters are on the CPU, as torch has them
    _update(network, optimiser, data.loss(data.forward(network, batch), batch), 1e-3, 1.0, 5.0, [])
    _follow(network, network, 0.9)


@pytest.mark.process
@pytest.mark.parametrize("name", SPECS)
def test_a_training_step_stays_on_the_device(name: str) -> None:
    spec = SPECS[name]
    how = replace(TRAIN, late=0.5)
    data: LabelledData[Any] = LabelledData(AudioFront(ENCODER, AUGMENT), how, LabelledSplit([], [], []))
    train_a_step(data, on_meta(Network(spec)), batch_of(spec))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("form", ["exact", "bank"])
def test_streams_run_on_the_device(name: str, form: Form) -> None:
    network, batch = on_meta(Network(SPECS[name])), batch_of(SPECS[name])
    with OnlyMeta():  # type: ignore[no-untyped-call]
        rolled = network.rollout(batch.events, form)  # without lengths: they are made
        assert rolled.probabilities.device.type == "meta"
        compiled = network.compile(form)
        state = initial_state(compiled.layout, 2, device=compiled.device)
        after, _ = step(compiled, state, torch.zeros(2, SPECS[name].channels, device="meta"))
    assert {tensor.device.type for tensor in (*state.values(), *after.values())} == {"meta"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu_is_one_sentence() -> None:
    with pytest.raises(DeviceError, match=r"finds 0 GPUs here: .* or give --device cpu$"):
        torch_device("cuda")


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(DeviceError, match="'gpu' is none that torch knows: give cpu or cuda"):
        torch_device("gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_what_the_cpu_trains() -> None:
    spec = SPECS["hetsyn"]
    losses = []
    for device in ("cpu", "cuda"):
        network = Network(replace(spec, dropout=0.0))
        network.fit_banks(size=3, hold=True)
        spikes = torch.rand(2, 7, spec.channels, generator=torch.Generator().manual_seed(0)) < 0.3
        here = Batch(Events.of(spikes), torch.tensor([7, 5]), torch.tensor([0, 2])).to(device)
        rolled = network.to(device).rollout(here.events, "bank", here.steps)
        losses.append(float(rolled.probabilities.detach().log().sum()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
