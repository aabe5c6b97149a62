"""What a user catches: one tree of errors, each with a code, and the exit status of the commands."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import hetsyn
from hetsyn_client import HetsynError
from hetsyn_model.state import initial_state
from hetsyn_model.step import step
from tests.support.artifacts.artifact import write_artifact
from tests.support.paths import RECORDINGS

PACKAGES = ("hetsyn", "hetsyn_client", "hetsyn_model", "export", "service")
# they leave a function of ours for another one, and never reach a caller
CONTROL_FLOW = {"Broken", "NotApplied", "Refused", "Taken", "TakesLong"}
# they are caught, never raised
BRANCHES = {"SessionError", "StateError", "StoreError", "TokenError"}


def below(kind: type[Exception]) -> Iterator[type[Exception]]:
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


def test_every_error_has_a_code_of_its_own() -> None:
    for package in map(importlib.import_module, PACKAGES[1:]):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.rpartition(".")[2].startswith("_"):  # __main__, and libraries of C++
                importlib.import_module(module.name)
    ours = {kind for kind in below(Exception) if kind.__module__.partition(".")[0] in PACKAGES}
    assert {kind.__name__ for kind in ours if not issubclass(kind, HetsynError)} == CONTROL_FLOW
    raised = [kind for kind in ours if issubclass(kind, HetsynError) and kind.__name__ not in BRANCHES]
    assert [kind for kind in raised if "code" not in vars(kind)] == []
    codes = {f"{kind.__module__}.{kind.__name__}": kind.code for kind in raised}  # a test may import a module twice
    assert len(set(codes.values())) == len(codes)


def network(**more: Any) -> hetsyn.Network:
    return hetsyn.Network(hetsyn.NetworkSpec(channels=3, hidden=(2,), outputs=2, **more))


def through_delays() -> None:
    compiled = network(input_path=hetsyn.PathSpec(max_delay_steps=2)).compile("exact")
    state, spikes = initial_state(compiled.layout, 1), torch.ones(1, 3, requires_grad=True)
    step(compiled, state, spikes)[1].readout.sum().backward()


def file(path: Path) -> Path:
    path.write_bytes(b"nothing that anybody reads")
    return path


SPIKES, LABELS = np.zeros((20, 5, 3)), ["a", "b"] * 10

# what is called with a folder, the code, and what the error was before it was a HetsynError
WRONG: dict[str, tuple[Callable[[Path], object], str, type[Exception]]] = {
    "a description": (lambda _: hetsyn.NetworkSpec(channels=0, hidden=(2,), outputs=2), "bad-spec", ValueError),
    "a form": (lambda _: network().compile("other"), "bad-value", ValueError),  # type: ignore[arg-type]
    "spikes": (lambda _: network().rollout(torch.zeros(1, 5, 4)), "bad-value", ValueError),
    "a saved network": (lambda _: hetsyn.Network.load({}), "bad-value", ValueError),
    "a gradient": (lambda _: through_delays(), "no-gradient", RuntimeError),
    "a bank": (lambda _: network().fit_banks(size=0), "no-bank", ValueError),
    "weights": (lambda _: hetsyn.from_reference({}), "bad-reference", ValueError),
    "a type of weights": (lambda _: hetsyn.from_reference({}, dtype=torch.float16), "bad-value", ValueError),
    "fit: labels": (lambda _: hetsyn.fit(SPIKES, ["a"]), "bad-data", ValueError),
    "fit: no file": (lambda folder: hetsyn.fit(folder / "none.npz"), "bad-data", ValueError),
    "fit: damaged": (lambda folder: hetsyn.fit(file(folder / "a.npz")), "bad-data", ValueError),
    "fit: configuration": (lambda _: hetsyn.fit(SPIKES, LABELS, config="none"), "bad-config", ValueError),
    "fit: device": (lambda _: hetsyn.fit(SPIKES, LABELS, device="none"), "no-device", ValueError),
    "fit: a folder": (lambda folder: hetsyn.fit(SPIKES, LABELS, out=file(folder / "a")), "bad-run", ValueError),
    "export: labels": (
        lambda folder: hetsyn.export_network(network(), out=folder / "a/1", labels=["a"]),
        "not-exportable",
        ValueError,
    ),
    "export: a path": (lambda _: hetsyn.export_network(network(), out="a", labels=["a"]), "bad-path", ValueError),
    "export: exists": (
        lambda folder: hetsyn.export_network(network(), out=folder, labels=["a", "b"]),
        "already-exists",
        FileExistsError,
    ),
    "a step": (
        lambda folder: hetsyn.export_step(
            torch.nn.Linear(3, 2),
            initial_state=(),
            example_input=torch.zeros(1, 3),
            out=folder / "a/1",
            labels=["a", "b"],
            step_s=0.01,
        ),
        "not-exportable",
        ValueError,
    ),
    "ONNX": (
        lambda folder: hetsyn.import_onnx(file(folder / "a"), out=folder / "a/1", labels=["a"], state={}),
        "not-exportable",
        ValueError,
    ),
    "NIR": (lambda folder: hetsyn.import_nir(file(folder / "a"), out=folder / "b/1"), "bad-nir", HetsynError),
    "NIR: a network": (lambda folder: hetsyn.export_nir(file(folder / "a"), out=folder / "b"), "bad-nir", HetsynError),
    "NIR: exists": (lambda folder: hetsyn.export_nir(network(), out=folder), "already-exists", FileExistsError),
    "NIR: a folder": (
        lambda folder: hetsyn.export_nir(network(), out=file(folder / "a") / "b.nir"),
        "bad-nir",
        HetsynError,
    ),
    "a server": (lambda _: hetsyn.StreamingClient("nowhere"), "bad-input", HetsynError),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_one_clause_catches_what_is_wrong(wrong: str, tmp_path: Path) -> None:
    call, code, before = WRONG[wrong]
    with pytest.raises(hetsyn.HetsynError) as caught:
        call(tmp_path)
    assert (caught.value.code, caught.value.exit_code) == (code, 1 if wrong == "a gradient" else 2)
    assert isinstance(caught.value, before)


SEVEN = str(RECORDINGS / "seven.wav")
COMMANDS = [
    (["train", "none", "--out", "run"], 2),
    (["train", "damaged.npz", "--out", "run"], 2),
    (["export", "none.pt", "--out", "a/1"], 2),
    (["export", "damaged.npz", "--out", "a/1"], 2),
    (["export", "shd-size", "--out", "digits/1"], 2),
    (["adapt", "none", "takes"], 2),
    (["import-onnx", "damaged.npz", "--out", "a/1", "--labels", "a"], 2),
    (["import-nir", "damaged.npz", "--out", "a/1"], 2),
    (["export-nir", "digits/2", "--out", "a.nir"], 2),
    (["inspect", "none"], 2),
    (["inspect", "digits/2"], 2),
    (["run", "none", SEVEN], 2),
    (["run", "digits", "damaged.npz"], 2),
    (["stream", "none.wav"], 2),
    (["stream", SEVEN, "--url", "http://127.0.0.1:9"], 1),
    (["bench", "--url", "http://127.0.0.1:9"], 1),
    (["keys", "revoke", "alice", "--file", "keys.json"], 2),
]


@pytest.mark.parametrize(("arguments", "code"), COMMANDS, ids=str)
def test_a_command_ends_with_one_line_and_the_exit_status_of_the_error(
    arguments: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_artifact(tmp_path)
    file(write_artifact(tmp_path, version="2") / "manifest.json")
    file(tmp_path / "damaged.npz")
    (tmp_path / "keys.json").write_text('{"format": 1, "keys": []}')
    done = CliRunner().invoke(hetsyn.app, arguments)
    assert done.exit_code == code, done.output
    assert done.stderr.startswith("hetsyn: ")
    assert len(done.stderr.splitlines()) == 1
