"""A recurrent cell becomes an artifact that does what the cell does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from export import export_step
from export.graphs.torchscript import load_torchscript
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
from tests.support.networks.cells import CELLS, CHANNELS, HIDDEN, LABELS, OUTPUTS, Gru, Lstm, example_input, exported
from tests.support.tools import needs_onnxscript

pytestmark = needs_onnxscript


def run(model: Model, values: Float32Array, cuts: list[int], steps: list[int] | None = None) -> dict[str, Any]:
    """Values [stream, steps, channels] through a model in chunks; the state and everything that came out."""
    batch = len(values)
    state, step = np.tile(model.initial_row, (batch, 1)), np.zeros(batch, np.int64)
    lengths = np.array(steps or [values.shape[1]] * batch, np.int64)
    readout, begin = [], 0
    for end in cuts:
        part = np.clip(lengths - begin, 0, end - begin)
        chunk = values[:, begin : begin + int(part.max())].copy()
        found = model.network.run(
            {VALUES: chunk, STEPS: part, STATE: state, STEP: step},
            [NEXT_STATE, NEXT_STEP, SCORES, PROBABILITIES, READOUT],
        )
        state, step, begin = found[NEXT_STATE], found[NEXT_STEP], end
        readout.append(found[READOUT])
    return found | {READOUT: np.concatenate(readout, 1)}


# torch exports each in seconds: one at every edit
NAMES = [pytest.param(name, marks=() if name == "gru" else pytest.mark.process) for name in CELLS]


@pytest.fixture(scope="module", params=NAMES)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Model]:
    """The name of a cell, the cell, and its artifact."""
    torch.manual_seed(1)
    name, cell = request.param, CELLS[request.param]()
    return name, cell, exported(cell, tmp_path_factory.mktemp("models"), name)


def test_a_cell_s_artifact_gives_what_the_cell_gives(served: tuple[str, Any, Model]) -> None:
    name, cell, model = served
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


@given(st.lists(st.integers(0, 9), max_size=5), st.lists(st.integers(0, 9), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_chunks_of_any_length_in_any_company_change_nothing(
    served: tuple[str, Any, Model], cuts: list[int], lengths: list[int]
) -> None:
    _, _, model = served
    values = np.random.default_rng(0).normal(size=(4, 9, model.manifest.input.channels)).astype(np.float32)
    together = run(model, values[: len(lengths)], [*sorted(cuts), 9], steps=lengths)
    for stream, length in enumerate(lengths):
        alone = run(model, values[stream : stream + 1, :length], [length])
        for output in (NEXT_STATE, NEXT_STEP, SCORES, PROBABILITIES):
            np.testing.assert_allclose(together[output][stream], alone[output][0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(together[READOUT][stream, :length], alone[READOUT][0], rtol=1e-5, atol=1e-5)


@pytest.mark.process
def test_a_chunk_in_which_no_stream_has_a_step_keeps_the_state(tmp_path: Path) -> None:
    model = exported(Lstm(), tmp_path, "lstm")
    empty = run(model, np.zeros((2, 0, CHANNELS), np.float32), [0])
    assert not empty[NEXT_STATE].any()
    assert empty[READOUT].shape == (2, 0, OUTPUTS)


@pytest.mark.process
def test_a_state_that_begins_with_different_values_begins_with_them(tmp_path: Path) -> None:
    cell = Gru()
    model = exported(cell, tmp_path)
    assert not model.initial_row.any()  # the manifest has one number a tensor
    x = torch.ones(1, CHANNELS)
    state, _ = cell.step(cell.initial(), x)
    second, _ = cell.step(state, x)
    found = run(model, np.ones((1, 2, CHANNELS), np.float32), [1, 2])
    np.testing.assert_allclose(found[NEXT_STATE][0, :HIDDEN], second[0].detach(), atol=1e-6)


@pytest.mark.process
def test_the_manifest_says_what_is_promised_and_the_golden_streams_are_of_values(tmp_path: Path) -> None:
    model = exported(Lstm(), tmp_path, "lstm", tolerance=1e-4, step_s=0.02, description="left or right")
    manifest = model.manifest
    assert (manifest.input.kind, manifest.input.channels, manifest.input.step_s) == ("values", CHANNELS, 0.02)
    assert (manifest.network.tolerance, manifest.network.form) == (1e-4, "exact")
    assert [t.name for t in manifest.network.state[:2]] == ["state.h", "state.c"]
    assert 0 <= float(manifest.provenance["difference_from_step"] or 0) <= 1e-5
    golden = np.load(model.artifact.folder / "golden.npz")
    values, steps = golden["values"], golden["steps"]
    found = run(model, values, [int(steps.max())], steps=steps.tolist())
    np.testing.assert_allclose(found[PROBABILITIES], golden["exact.probabilities"], atol=1e-5)


@pytest.mark.process
def test_spikes_come_as_events(tmp_path: Path) -> None:
    torch.manual_seed(3)
    cell = Lstm()
    values, spikes = (exported(cell, tmp_path / kind, "lstm", input_kind=kind) for kind in ("values", "spikes"))
    assert (spikes.manifest.input.kind, set(spikes.network.inputs) & {VALUES}) == ("spikes", set())
    train = (np.random.default_rng(0).random((2, 6, CHANNELS)) < 0.4).astype(np.float32)
    stream, t, unit = np.nonzero(train)
    state = np.tile(spikes.initial_row, (2, 1))
    rest = {STEPS: np.array([6, 6]), STATE: state, STEP: np.zeros(2, np.int64)}
    of_events = spikes.network.run({"events.row": stream * 6 + t, "events.unit": unit} | rest, [READOUT])
    np.testing.assert_allclose(of_events[READOUT], run(values, train, [6])[READOUT], atol=1e-6)


@pytest.mark.process
def test_torchscript_takes_the_manifest_s_states_in_order(tmp_path: Path) -> None:
    cell = Gru()
    model = exported(cell, tmp_path, decision="late_softmax")
    script = load_torchscript(model.artifact.read("exact.pt"))
    states = [torch.zeros(1, *t.shape, dtype=getattr(torch, t.dtype)) for t in model.manifest.network.state]
    readout, *after = script(torch.ones(1, CHANNELS), *states)
    _, expected = cell.step(cell.initial(), torch.ones(1, CHANNELS))
    torch.testing.assert_close(readout, expected)
    torch.testing.assert_close(after[-2], torch.softmax(expected, -1))
    assert int(after[-1]) == 1


@pytest.mark.process
def test_a_module_in_training_mode_stays_so(tmp_path: Path) -> None:
    cell = Lstm().train()
    exported(cell, tmp_path, "lstm")
    assert cell.training
    assert cell.cell.training


@pytest.mark.process
def test_a_mask_of_a_module_may_be_infinite(tmp_path: Path) -> None:
    cell = Gru()
    cell.register_buffer("mask", torch.full((OUTPUTS,), float("-inf")))
    assert exported(cell, tmp_path).manifest.outputs == OUTPUTS


@pytest.mark.process
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


@pytest.mark.process
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


@pytest.mark.process
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
    states = [torch.zeros(1, *t.shape, dtype=getattr(torch, t.dtype)) for t in model.manifest.network.state]
    for _ in range(3):
        readout, *states = script(torch.ones(1, CHANNELS), *states)
        assert readout.tolist() == [[1.0] * OUTPUTS]
