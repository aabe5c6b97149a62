"""Sequential MNIST with grey values: the task, its network, and what is judged of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hetsyn_model.network import Network
from research.catalog.grey import sequential_mnist
from research.runs.analysis import BANK_SIZES, analyse
from research.runs.plan import BASE, Cell
from research.runs.planned import final_run
from research.runs.run import build, evaluate, open_task
from research.tasks import images as image_data
from research.tasks.grey_images import GreyImages, GreyImageSpec, grey_values
from research.tasks.images import Images, ImageSet
from research.tasks.task import first_streams


def images(count: int) -> tuple[Images, np.ndarray]:
    drawn = np.random.default_rng(count).integers(0, 256, (count, 28, 28)).astype(np.uint8)
    return drawn * (drawn > 200), np.arange(count) % 10


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> GreyImages:
    drawn = ImageSet(images(30), images(6), images(12))
    monkeypatch.setattr(image_data, "read_mnist_5k", lambda: drawn)
    return GreyImages(GreyImageSpec(hidden=(5, 4), test_images=8))


def test_a_pixel_is_a_step_and_its_grey_value_the_input() -> None:
    drawn, _ = images(3)
    values = grey_values(drawn)
    assert values.shape == (3, 784, 1)
    assert values.dtype == torch.float32
    assert values[2, 5 * 28 + 7, 0] == np.float32(drawn[2, 5, 7] / np.float32(255))


def test_batches_have_the_grey_values_and_every_image_once_an_epoch(task: GreyImages) -> None:
    batches = [task.training_batch(10, seed=1, update=update) for update in range(3)]
    seen = torch.cat([batch.events.dense() for batch in batches])
    everything = grey_values(task.data.train[0])
    assert torch.equal(seen.sum((1, 2)).sort().values, everything.sum((1, 2)).sort().values)
    again = task.training_batch(10, seed=1, update=0)
    assert torch.equal(again.events.dense(), batches[0].events.dense())
    assert not torch.equal(task.training_batch(10, seed=2, update=0).target, batches[0].target)


def test_the_first_streams_keep_their_values(task: GreyImages) -> None:
    (few,) = first_streams(task.test(), 3)
    assert torch.equal(few.events.dense(), grey_values(task.data.test[0][:3]))


def test_the_network_is_the_papers() -> None:
    experiment = sequential_mnist()
    run = final_run(experiment, experiment.condition(BASE), Cell("hetsyn", True), 0, {})
    network = build(run, open_task(run))
    assert isinstance(network, Network)
    spec = network.spec
    assert (spec.channels, spec.hidden, spec.outputs, spec.recurrent) == (1, (64, 64), 10, True)
    assert spec.takes_values
    assert spec.decision.counts_spikes
    assert spec.decision.skip_steps == 0
    assert spec.neuron.tau_reset_steps == 20
    assert spec.neuron.tau_init_steps == pytest.approx((5, 20), abs=0.1)
    assert (run.learning_rate, run.training.weight_decay) == (1e-3, 0.0)
    assert run.training.bank_size >= 8


def test_a_network_is_trained_and_judged_in_both_forms(task: GreyImages) -> None:
    experiment = sequential_mnist()
    run = final_run(experiment, experiment.condition(BASE), Cell("hetsyn", True), 0, {})
    network = build(run, task)
    assert isinstance(network, Network)
    network.fit_banks(size=8)
    batch = task.training_batch(8, seed=0, update=0)
    loss = task.loss(network.rollout(batch.events), batch)
    loss.backward()
    gradient = network.layer("hidden1").w_in.grad
    assert gradient is not None
    assert gradient.abs().max() > 0
    found = analyse(run, task, network, exact=4, changed=0)
    assert set(found) == {"bank", "time_constants"}
    assert [row["form"] for row in found["bank"]] == ["exact"] + ["bank"] * len(BANK_SIZES)
    assert found["bank"][0]["figure"] == evaluate(network, task, first_streams(task.test(), 4), "exact").figure
