"""The paper's reference cells, through their golden vectors, and what its checkpoints may get wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hetsyn_model import CheckpointError, Network, from_reference
from tests.support.paths import GOLDEN as GOLDEN_FILES

GOLDEN = sorted(GOLDEN_FILES.glob("*.npz"))


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
    with np.load(GOLDEN_FILES / name) as file:
        values = dict(file)
    return {k.removeprefix("param/"): torch.from_numpy(v) for k, v in values.items() if k.startswith("param/")}, values


def network_of(name: str) -> tuple[Network, dict[str, np.ndarray]]:
    weights, values = golden(name)
    network = from_reference(
        weights,
        threshold=float(values["threshold"]),
        step_s=float(values["dt_s"]),
        tau_reset_s=float(values["tau_reset_s"]),
        dtype=torch.float64,
    )
    return network, values


def test_there_are_golden_files() -> None:
    assert len(GOLDEN) == 6


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_exact_form_is_the_reference(path: Path) -> None:
    network, values = network_of(path.name)
    with torch.no_grad():
        rolled = network.rollout(torch.from_numpy(values["input_spikes"]).double(), form="exact")
    assert np.array_equal(rolled.hidden_spikes[-1].numpy(), values["hidden_spikes"])
    assert np.abs(rolled.readout.numpy() - values["readout"]).max() < 1e-9
    if "decision_sum" in values:
        assert np.abs(rolled.scores.numpy() - values["decision_sum"]).max() < 1e-9


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_bank_form_follows_it(path: Path) -> None:
    network, values = network_of(path.name)
    errors = network.fit_banks(error_bound=1e-5)
    with torch.no_grad():
        rolled = network.rollout(torch.from_numpy(values["input_spikes"]).double(), form="bank")
    assert max(errors.values()) <= 1e-5
    assert np.array_equal(rolled.hidden_spikes[-1].numpy(), values["hidden_spikes"])
    assert np.abs(rolled.readout.numpy() - values["readout"]).max() < 1e-3


def test_either_alias_alone_is_enough() -> None:
    weights, _ = golden("hetsyn_rsnn2_small.npz")
    short = {name: tensor for name, tensor in weights.items() if "." not in name}
    nested = {name: tensor for name, tensor in weights.items() if ".layer_" in name}
    for subset in (short, nested):
        assert torch.equal(from_reference(subset).layer("hidden2").w_in, from_reference(weights).layer("hidden2").w_in)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: [w.pop(n) for n in ("w_rec1", "layer_hidden1.w_rec", "layer_hidden1.layer_rec.w")], "w_rec1"),
        (lambda w: [w.pop(n) for n in ("rho_out", "layer_out.rho_in", "layer_out.layer_in.rho")], "rho_out"),
        (lambda w: w.update(w_in3=torch.zeros(2, 2)), "w_in3"),
        (
            lambda w: w.update(
                {n: torch.zeros(16, 23) for n in ("w_rec1", "layer_hidden1.w_rec", "layer_hidden1.layer_rec.w")}
            ),
            "w_rec1",
        ),
        (lambda w: w.update(w_in2=w["w_in2"] + 1), "layer_hidden2.w_in"),
        (
            lambda w: w.update(
                {n: w["w_out"] * float("nan") for n in ("w_out", "layer_out.w_in", "layer_out.layer_in.w")}
            ),
            "w_out",
        ),
        (
            lambda w: w.update(
                dict.fromkeys(("rho_in1", "layer_hidden1.rho_in", "layer_hidden1.layer_in.rho"), w["rho_in1"] + 1)
            ),
            "rho_in1",
        ),
    ],
)
def test_a_wrong_entry_is_named(change, named: str) -> None:  # type: ignore[no-untyped-def]
    weights, _ = golden("hetsyn_rsnn2_small.npz")
    change(weights)
    with pytest.raises(CheckpointError, match=named.replace(".", r"\.")):
        from_reference(weights)


def test_a_network_of_another_shape_is_refused() -> None:
    with pytest.raises(CheckpointError, match="missing entry 'w_in'"):
        from_reference({"w_out": torch.zeros(2, 3)})


@pytest.mark.parametrize(
    ("file", "extra"), [("hetsyn_rsnn.npz", "w_in2"), ("hetsyn_fsnn.npz", "w_rec"), ("hetsyn_fsnn.npz", "b_rec")]
)
def test_an_extra_entry_does_not_change_what_the_network_is(file: str, extra: str) -> None:
    weights, _ = golden(file)
    with pytest.raises(CheckpointError, match=f"unknown entry '{extra}'"):
        from_reference(weights | {extra: torch.zeros(14, 14)})


def test_arrays_of_any_kind_are_read() -> None:
    weights, _ = golden("hetsyn_rsnn2_small.npz")
    expected = from_reference(weights).layer("hidden1").w_in
    changes: list[Callable[[Any], Any]] = [lambda a: a.astype(">f8"), lambda a: a[::-1][::-1], lambda a: a.tolist()]
    for change in changes:
        arrays = {name: change(tensor.numpy()) for name, tensor in weights.items()}
        assert torch.equal(from_reference(arrays).layer("hidden1").w_in, expected)
    with pytest.raises(CheckpointError, match="'w_out' is not a tensor of numbers"):
        from_reference(weights | {"w_out": "none"})  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="strip the prefix"):
        from_reference({f"param/{name}": tensor for name, tensor in weights.items()})


def test_what_no_network_has_is_refused() -> None:
    weights, _ = golden("hetsyn_fsnn.npz")
    with pytest.raises(ValueError, match="float32 or float64"):
        from_reference(weights, dtype=torch.float16)
    with pytest.raises(ValueError, match="step_s"):
        from_reference(weights, step_s=0.0)
