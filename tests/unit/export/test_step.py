"""A recurrent cell becomes an artifact that does what the cell does, or one sentence says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from export import ExportError, export_step
from export.folder import ArtifactPathError, check_absent
from export.parity import ParityError
from export.step_parity import StepDifference, StepEvidence, check_evidence
from export.torchscript import load_torchscript
from service.contract.artifact import Artifact
from service.contract.graph_io import (
    NEXT_STATE,
    NEXT_STEP,
    PROBABILITIES,
    READOUT,
    SCORES,
    STATE,
    STEP,
    STEPS,
    VALUES,
    Float32Array,
)
from service.models.model import Model
from service.runtime.onnx import load_graph
from tests.support.cells import CELLS, CHANNELS, HIDDEN, LABELS, OUTPUTS, Gru, Lstm, example_input

pytest.importorskip("onnxscript", reason="torch exports ONNX with onnxscript: pip install onnxscript")


def exported(cell: Any, out: Path, name: str = "gru", **options: Any) -> Model:
    folder = out / name / "1"
    request = {"example_input": example_input(name), "initial_state": cell.initial(), "labels": LABELS} | options
    export_step(cell, out=folder, **request)
    return Model(Artifact.open(folder), load_graph)


def run(model: Model, values: Float32Array, cuts: list[int], steps: list[int] | None = None) -> dict[str, Any]:
    """Values [stream, steps, channels] through a model in chunks; the state and everything that came out."""
    batch = len(values)
    state, step = np.tile(model.initial_state("exact"), (batch, 1)), np.zeros(batch, np.int64)
    lengths = np.array(steps or [values.shape[1]] * batch, np.int64)
    readout, begin = [], 0
    for end in cuts:
        part = np.clip(lengths - begin, 0, end - begin)
        chunk = values[:, begin : begin + int(part.max())].copy()
        found = model.network("exact").run(
            {VALUES: chunk, STEPS: part, STATE: state, STEP: step},
            [NEXT_STATE, NEXT_STEP, SCORES, PROBABILITIES, READOUT],
        )
        state, step, begin = found[NEXT_STATE], found[NEXT_STEP], end
        readout.append(found[READOUT])
    return found | {READOUT: np.concatenate(readout, 1)}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_s_artifact_gives_what_the_cell_gives(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    cell = CELLS[name]()
    model = exported(cell, tmp_path, name)
    shape = example_input(name).shape[1:]
    values = torch.randn(3, 7, *shape)
    found = run(model, values.reshape(3, 7, -1).numpy(), [7])
    for stream in range(3):
        state, outputs = cell.initial(), []
        for t in range(7):
            with torch.no_grad():
                state, output = cell.step(state, values[stream, t][None])
            outputs.append(output[0])
        np.testing.assert_allclose(found[READOUT][stream], torch.stack(outputs), rtol=1e-5, atol=1e-5)
        share = torch.stack(outputs).softmax(-1).mean(0)
        np.testing.assert_allclose(found[PROBABILITIES][stream], share, atol=1e-6)


@pytest.fixture(scope="module", params=CELLS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.manual_seed(2)
    return exported(CELLS[request.param](), tmp_path_factory.mktemp("models"), request.param)


@given(st.lists(st.integers(0, 9), max_size=5), st.lists(st.integers(0, 9), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_chunks_of_any_length_in_any_company_change_nothing(model: Model, cuts: list[int], lengths: list[int]) -> None:
    values = np.random.default_rng(0).normal(size=(4, 9, model.manifest.input.channels)).astype(np.float32)
    together = run(model, values[: len(lengths)], [*sorted(cuts), 9], steps=lengths)
    for stream, length in enumerate(lengths):
        alone = run(model, values[stream : stream + 1, :length], [length])
        for output in (NEXT_STATE, NEXT_STEP, SCORES, PROBABILITIES):
            np.testing.assert_allclose(together[output][stream], alone[output][0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(together[READOUT][stream, :length], alone[READOUT][0], rtol=1e-5, atol=1e-5)


def test_a_chunk_in_which_no_stream_has_a_step_keeps_the_state(tmp_path: Path) -> None:
    model = exported(Lstm(), tmp_path, "lstm")
    empty = run(model, np.zeros((2, 0, CHANNELS), np.float32), [0])
    assert not empty[NEXT_STATE].any()
    assert empty[READOUT].shape == (2, 0, OUTPUTS)


def test_a_state_that_begins_with_different_values_begins_with_them(tmp_path: Path) -> None:
    cell = Gru()
    model = exported(cell, tmp_path)
    assert not model.initial_state("exact").any()  # the manifest has one number a tensor
    x = torch.ones(1, CHANNELS)
    state, _ = cell.step(cell.initial(), x)
    second, _ = cell.step(state, x)
    found = run(model, np.ones((1, 2, CHANNELS), np.float32), [1, 2])
    np.testing.assert_allclose(found[NEXT_STATE][0, :HIDDEN], second[0].detach(), atol=1e-6)


def test_the_manifest_says_what_is_promised_and_the_golden_streams_are_of_values(tmp_path: Path) -> None:
    model = exported(Lstm(), tmp_path, "lstm", tolerance=1e-4, step_s=0.02, description="left or right")
    manifest = model.manifest
    assert (manifest.input.kind, manifest.input.channels, manifest.input.step_s) == ("values", CHANNELS, 0.02)
    assert (manifest.forms["exact"].tolerance, list(manifest.forms), manifest.default_form) == (
        1e-4,
        ["exact"],
        "exact",
    )
    assert [t.name for t in manifest.forms["exact"].state[:2]] == ["state.h", "state.c"]
    assert 0 <= float(manifest.provenance["difference_from_step"] or 0) <= 1e-5
    golden = np.load(model.artifact.folder / "golden.npz")
    values, steps = golden["values"], golden["steps"]
    found = run(model, values, [int(steps.max())], steps=steps.tolist())
    np.testing.assert_allclose(found[PROBABILITIES], golden["exact.probabilities"], atol=1e-5)


def test_spikes_come_as_events(tmp_path: Path) -> None:
    torch.manual_seed(3)
    cell = Lstm()
    values, spikes = (exported(cell, tmp_path / kind, "lstm", input_kind=kind) for kind in ("values", "spikes"))
    assert (spikes.manifest.input.kind, set(spikes.network("exact").inputs) & {VALUES}) == ("spikes", set())
    train = (np.random.default_rng(0).random((2, 6, CHANNELS)) < 0.4).astype(np.float32)
    stream, t, unit = np.nonzero(train)
    state = np.tile(spikes.initial_state("exact"), (2, 1))
    rest = {STEPS: np.array([6, 6]), STATE: state, STEP: np.zeros(2, np.int64)}
    of_events = spikes.network("exact").run({"events.row": stream * 6 + t, "events.unit": unit} | rest, [READOUT])
    np.testing.assert_allclose(of_events[READOUT], run(values, train, [6])[READOUT], atol=1e-6)


def test_torchscript_takes_the_manifest_s_states_in_order(tmp_path: Path) -> None:
    cell = Gru()
    model = exported(cell, tmp_path)
    script = load_torchscript(model.artifact.read("exact.pt"))
    states = [torch.zeros(1, *t.shape, dtype=getattr(torch, t.dtype)) for t in model.manifest.forms["exact"].state]
    readout, *after = script(torch.ones(1, CHANNELS), *states)
    _, expected = cell.step(cell.initial(), torch.ones(1, CHANNELS))
    torch.testing.assert_close(readout, expected)
    assert int(after[-1]) == 1


def test_a_module_in_training_mode_stays_so(tmp_path: Path) -> None:
    cell = Lstm().train()
    exported(cell, tmp_path, "lstm")
    assert cell.training
    assert cell.cell.training


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
        ("branch", "decides there by a tensor's value .*use torch.where"),
        ("grows", r"state is float32 \[1, 2\] before a step and float32 \[1, 4\] after it: a state keeps"),
        ("structure", "state of another structure than initial_state .*: return the same"),
        ("no pair", r"step returns a Tensor: return a pair, \(state, output\)"),
        ("two outputs", r"step's output is a tuple: return one tensor"),
        ("random", "draws random numbers: take them out"),
        ("keeps", "another result when it is called again: the module keeps a state of its own; pass all of it"),
        ("batch of one", "takes a batch of 1, but fails on one of 2 .*: take the batch from the input's shape"),
        ("keeps one", r"state is float32 \[2, 2\] before a step and float32 \[1, 2\] after it: a state keeps"),
        ("mixes", "must treat each row of the batch by itself"),
        ("infinite", r"is not finite, or not below 1e\+30, after step 1: give usual inputs as examples="),
        ("functional", r"training mode, in which its step does something else: call module.eval\(\)"),
        ("dropout", r"training mode, in which its Dropout does something else: call module.eval\(\)"),
    ],
)
def test_a_step_that_cannot_be_served_gets_a_sentence_and_no_folder(fault: str, sentence: str, tmp_path: Path) -> None:
    cell = Odd(fault).train(fault in ("dropout", "functional"))
    if fault == "functional":
        cell.drop = nn.Identity()  # type: ignore[assignment]
    with pytest.raises((ExportError, ParityError), match=sentence) as caught:
        exported(cell, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.onnx"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"labels": ["one"]}, "1 label for 2 outputs: give one label an output"),
        ({"labels": ["one", "one"]}, "label 'one' stands for two outputs"),
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
        ({"tail_steps": -1}, "tail_steps: Input should be greater than or equal to 0"),
        ({"initial_state": torch.zeros(2, HIDDEN)}, r"state has shape \[2, 5\]: put a batch axis of 1 in front"),
        ({"initial_state": (torch.zeros(1, HIDDEN), 3)}, r"state.1 is a int: make it a tensor"),
        ({"decision": "most"}, "decision.rule: 'most' is none of"),
        ({"decision": "spike_count"}, "adds up spikes, but an output is not within 0 and 1: return the spikes"),
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


@pytest.mark.parametrize(("company", "tolerance"), [(1e-7, 0.0), (1e-7, 1e-8), (float("nan"), 1.0)])
def test_what_differs_in_company_beyond_the_promise_is_refused(company: float, tolerance: float) -> None:
    evidence = StepEvidence([], [StepDifference("alone", 0.0), StepDifference("one batch", company)], company)
    with pytest.raises(ParityError, match=r"a stream in a batch differs by 1e-07|not finite where the step by itself"):
        check_evidence(evidence, tolerance)
    check_evidence(StepEvidence([], evidence.differences[:1], 0.0), tolerance)


def test_a_mask_of_a_module_may_be_infinite(tmp_path: Path) -> None:
    cell = Gru()
    cell.register_buffer("mask", torch.full((OUTPUTS,), float("-inf")))
    assert exported(cell, tmp_path).manifest.outputs == OUTPUTS


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
    with pytest.raises(ArtifactPathError, match=r"models has models: .*lstm has no version: write to .*lstm/1"):
        check_absent(tmp_path / "models" / "lstm")
    with pytest.raises(ArtifactPathError, match=r"gru/1 is an artifact itself: .*NAME/VERSION outside"):
        check_absent(tmp_path / "models" / "gru" / "1" / "2")


def test_weights_of_float64_are_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"step fails on .*: its weights are float64: call module.float\(\) first"):
        exported(Gru().double(), tmp_path)


def test_tokens_and_single_numbers_are_inputs_too(tmp_path: Path) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.cell = nn.Embedding(4, HIDDEN), nn.GRUCell(HIDDEN, OUTPUTS)

        def step(self, state: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
            h = self.cell(self.table(token), state)
            return h, h

    cell = Tokens()
    export_step(
        cell,
        out=tmp_path / "tokens" / "1",
        example_input=torch.tensor([3]),
        initial_state=torch.zeros(1, OUTPUTS),
        labels=LABELS,
        decision="last",
        examples=[[0, 1, 2, 3], [3, 3]],
    )
    model = Model(Artifact.open(tmp_path / "tokens" / "1"), load_graph)
    found = run(model, np.array([[[1.0], [2.0]]], np.float32), [2])
    state, _ = cell.step(torch.zeros(1, OUTPUTS), torch.tensor([1]))
    state, output = cell.step(state, torch.tensor([2]))
    np.testing.assert_allclose(found[SCORES], output.detach(), atol=1e-6)


def test_a_step_may_change_its_arguments_in_place(tmp_path: Path) -> None:
    class InPlace(Gru):
        def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            state *= 0.5
            state[:, :CHANNELS] += x.mul_(2)
            return state, self.readout(state)

    cell, begin = InPlace(), Gru.initial()
    kept = begin.clone()
    export_step(
        cell,
        out=tmp_path / "cell" / "1",
        example_input=torch.ones(1, CHANNELS),
        initial_state=begin,
        labels=LABELS,
    )
    torch.testing.assert_close(begin, kept)
    model = Model(Artifact.open(tmp_path / "cell" / "1"), load_graph)
    found = run(model, np.ones((2, 3, CHANNELS), np.float32), [1, 3])
    for _ in range(3):
        kept, output = cell.step(kept.clone(), torch.ones(1, CHANNELS))
    np.testing.assert_allclose(found[READOUT][1, -1], output[0].detach(), atol=1e-6)


def test_a_surrogate_gradient_goes_into_torchscript(tmp_path: Path) -> None:
    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, potential: Tensor) -> Tensor:
            return (potential > 1).float()

        @staticmethod
        def backward(_: Any, *gradients: Tensor) -> Tensor:
            return gradients[0]

    class Spiking(Gru):
        def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            potential = 0.9 * state + 2 * x.sum(-1, keepdim=True)
            spikes: Tensor = Spike.apply(potential)  # type: ignore[no-untyped-call]
            return potential * (1 - spikes), spikes[:, :OUTPUTS]

    model = exported(Spiking(), tmp_path, decision="spike_count", input_kind="spikes")
    script = load_torchscript(model.artifact.read("exact.pt"))
    states = [torch.zeros(1, *t.shape, dtype=getattr(torch, t.dtype)) for t in model.manifest.forms["exact"].state]
    for _ in range(3):
        readout, *states = script(torch.ones(1, CHANNELS), *states)
        assert readout.tolist() == [[1.0] * OUTPUTS]
