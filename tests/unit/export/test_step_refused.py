"""A cell that cannot be served: one sentence says why not and what to do, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export import ExportError, export_step
from export.folder import ArtifactPathError, artifact_path, check_absent
from export.parity import ParityError
from tests.support.networks.cells import CHANNELS, HIDDEN, LABELS, OUTPUTS, Gru, example_input, exported
from tests.support.tools import needs_onnxscript

pytestmark = needs_onnxscript


AFTER_EXPORT = pytest.mark.process  # found out when torch has exported the step, which takes seconds


class Odd(nn.Module):
    """A cell with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.last = fault, torch.zeros(1)
        self.layer, self.drop = nn.Linear(CHANNELS, OUTPUTS), nn.Dropout(0.5)
        if fault == "nan weight":
            nn.init.constant_(self.layer.weight, float("nan"))

    def step(self, state: Any, x: Tensor) -> Any:
        y = self.layer(x)
        if self.fault == "branch":
            return state + y if y.sum() > 0 else state, y
        if self.fault == "grows":
            return torch.cat([state, y], -1), y
        if self.fault == "structure":
            return (state,), y
        if self.fault == "module" and torch.compiler.is_compiling():
            import_module("absent")
        if self.fault == "no pair":
            return y
        if self.fault == "two outputs":
            return state, (y, y)
        if self.fault == "random":
            return state, y + torch.randn_like(y)
        if self.fault == "keeps":
            self.last = self.last + 1
            return state, y + self.last
        if self.fault == "batch of one":
            return state, y.reshape(1, OUTPUTS)
        if self.fault == "keeps one":
            return state[:1] + y[:1], y
        if self.fault == "mixes":
            return state, y - y.mean(0)
        if self.fault == "infinite":
            return state * 1e30 + 1e30, y
        if self.fault == "functional":
            return state, nn.functional.dropout(y, 0.5, self.training)
        return state, self.drop(y) if self.fault == "dropout" else y

    def initial(self) -> Tensor:
        return torch.zeros(1, OUTPUTS)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("nan weight", "weight layer.weight has 6 values that are NaN or infinite: load"),
        pytest.param("branch", "decides there by a tensor's value .*use torch.where", marks=AFTER_EXPORT),
        pytest.param(
            "module", r"the step cannot be exported \(No module named 'absent'\): keep to torch", marks=AFTER_EXPORT
        ),
        ("grows", r"state is float32 \[1, 2\] before a step and float32 \[1, 4\] after it: a state keeps"),
        ("structure", "state of another structure than initial_state .*: return the same"),
        ("no pair", r"step returns a Tensor: return a pair, \(state, output\)"),
        ("two outputs", r"step's output is a tuple: return one tensor"),
        ("random", "draws random numbers: take them out"),
        ("keeps", "another result when it is called again: the module keeps a state of its own; pass all of it"),
        ("batch of one", "takes a batch of 1, but fails on one of 2 .*: take the batch from the input's shape"),
        ("keeps one", r"state is float32 \[2, 2\] before a step and float32 \[1, 2\] after it: a state keeps"),
        pytest.param("mixes", "must treat each row of the batch by itself", marks=AFTER_EXPORT),
        pytest.param(
            "infinite",
            r"is not finite, or not below 1e\+30, after step 1: give usual inputs as examples=",
            marks=AFTER_EXPORT,
        ),
        ("functional", r"training mode, in which its step does something else: call module.eval\(\)"),
        ("dropout", r"training mode, in which its Dropout does something else: call module.eval\(\)"),
    ],
)
def test_a_step_that_cannot_be_served_gets_a_sentence_and_no_folder(
    fault: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = Odd(fault).train(fault in ("dropout", "functional"))
    if fault == "functional":
        cell.drop = nn.Identity()  # type: ignore[assignment]
    with pytest.raises((ExportError, ParityError), match=sentence) as caught:
        exported(cell, tmp_path)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().err == ""
    assert not list(tmp_path.rglob("*.onnx"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param({"labels": ["one"]}, "1 label for 2 outputs: give one label an output", marks=AFTER_EXPORT),
        pytest.param({"labels": ["one", "one"]}, "label 'one' stands for two outputs", marks=AFTER_EXPORT),
        ({"example_input": torch.zeros(CHANNELS)}, r"example_input has shape \[3\]: put a batch axis of 1 in front"),
        ({"example_input": torch.zeros(1, CHANNELS + 1)}, "step fails on initial_state and example_input .*: give"),
        ({"example_input": torch.zeros(1, CHANNELS).double()}, "float64, .* int64, and call module.float.. first$"),
        ({"example_input": torch.zeros(1, 0)}, "example_input has shape .*at least one value a step"),
        ({"example_input": [0.0]}, "example_input is a list: give a tensor"),
        (
            {"initial_state": torch.zeros(1, HIDDEN, dtype=torch.int64)},
            "state is int64, .*keep it as float32, which is",
        ),
        ({"initial_state": torch.zeros(1, HIDDEN).double()}, "state is float64, .*: keep it as float32$"),
        ({"initial_state": torch.zeros(1, HIDDEN) * 1j}, "keep its real and imaginary parts as two float32 tensors"),
        ({"initial_state": torch.zeros(1, 0)}, r"state has shape \[1, 0\], no values: leave it out"),
        pytest.param({"tail_steps": -1}, "tail_steps: Input should be greater than or equal to 0", marks=AFTER_EXPORT),
        ({"initial_state": torch.zeros(2, HIDDEN)}, r"state has shape \[2, 5\]: put a batch axis of 1 in front"),
        ({"initial_state": (torch.zeros(1, HIDDEN), 3)}, r"state.1 is a int: make it a tensor"),
        ({"decision": "most"}, "decision.rule: 'most' is none of"),
        pytest.param(
            {"decision": "spike_count"},
            "adds up spikes, but an output is not within 0 and 1: return the spikes",
            marks=AFTER_EXPORT,
        ),
        ({"input_kind": "audio"}, "input_kind is 'audio': use 'values' or 'spikes'"),
        ({"step_s": 0.0}, "step_s is 0: give the duration"),
        ({"tolerance": 2.0}, "tolerance is 2: give 0 to 1"),
        ({"examples": [np.zeros((4, 2))]}, r"example 0 has shape \[4, 2\]: give \[steps, 3\] each"),
        ({"examples": ["one"]}, "examples are no arrays of numbers .*: give a list"),
        ({"labels": "ab"}, "labels are one text, 'ab': give a list of names"),
        (
            {"initial_state": torch.full((1, HIDDEN), -3e38)},
            r"state has a value .* not below 1e\+30: begin with numbers",
        ),
        (
            {"initial_state": {1: torch.zeros(1), "1": torch.zeros(1)}},
            "two tensors of initial_state are called state.1",
        ),
        ({"examples": [np.full((4, 3), np.nan)]}, "example 0 has a value that is not finite"),
        ({"examples": [np.full((4, 3), 2)], "input_kind": "spikes"}, "a value that is no spike"),
    ],
)
def test_an_argument_that_does_not_fit_gets_a_sentence(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises((ExportError, ParityError), match=sentence):
        exported(Gru(), tmp_path, **options)
    assert not list(tmp_path.rglob("*.onnx"))


@pytest.mark.process
def test_a_figure_above_the_tolerance_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    class Chaos(Odd):
        def step(self, state: Any, x: Tensor) -> Any:
            after = torch.remainder(3.7 * state + self.layer(x), 1)  # a difference grows to all of the range
            return after, after

    with pytest.raises(ParityError, match=r"differs from the step by .*more than 1e-05: .*tolerance="):
        exported(Chaos("none").eval(), tmp_path)
    assert not list(tmp_path.rglob("*"))


def test_paths_that_no_server_reads_and_existing_folders_are_refused(tmp_path: Path) -> None:
    make: Callable[[str], Any] = lambda out: export_step(  # noqa: E731
        Gru(), out=tmp_path / out, example_input=example_input("gru"), initial_state=Gru.initial(), labels=LABELS
    )
    with pytest.raises(ArtifactPathError, match="name 'a b'"):
        make("a b/1")
    (tmp_path / "gru" / "1").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="never overwritten, choose another version"):
        make("gru/1")


@pytest.mark.process
def test_a_place_that_cannot_be_written_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "gru").write_text("a file where the model's folder would be")
    with pytest.raises(ExportError, match=r"gru/1 cannot be written \(.*\): write where there is room and you may"):
        exported(Gru(), tmp_path)


def test_a_version_is_missed_where_it_shows(tmp_path: Path) -> None:
    check_absent(tmp_path / "models" / "gru" / "1")
    for version in "1", "2":
        (tmp_path / "models" / "gru" / version).mkdir(parents=True)
    (tmp_path / "models" / "gru" / "1" / "manifest.json").touch()
    check_absent(tmp_path / "models" / "gru" / "3")
    for one_name in ("words", "./words", "."):
        with pytest.raises(ArtifactPathError, match=r"has no version: write to a folder NAME/VERSION, as models/"):
            artifact_path(one_name)
    assert artifact_path("words/1") == Path.cwd() / "words" / "1"
    with pytest.raises(ArtifactPathError, match=r"words has no version: write to .*models/words/1"):
        check_absent(tmp_path / "other" / "models" / "words")
    with pytest.raises(ArtifactPathError, match=r"models has models: .*lstm has no version: write to .*lstm/1"):
        check_absent(tmp_path / "models" / "lstm")
    with pytest.raises(ArtifactPathError, match=r"gru/1 is an artifact itself: .*NAME/VERSION outside"):
        check_absent(tmp_path / "models" / "gru" / "1" / "2")


def test_weights_of_float64_are_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"step fails on .*: its weights are float64: call module.float\(\) first"):
        exported(Gru().double(), tmp_path)


class Importing(Gru):
    def step(self, state: Any, x: Tensor) -> Any:
        import_module("no_such_package")
        return super().step(state, x)


def test_a_module_that_a_step_imports_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"'no_such_package'.*: install what it imports"):
        exported(Importing(), tmp_path)
