"""The named families: every implementation, any chunks, any company, a long silence; delays that are off are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from export.parity import Streams, chunk_feed, initial_row, run_graph
from hetsyn_model import Network, NetworkSpec, PathSpec
from hetsyn_model.state import Form
from service.contract.graph_io import NEXT_STATE, NEXT_STEP, READOUT, STATE, STEP
from service.runtime.onnx import Graph
from tests.support.networks.exported import FORMS, exported_family, verify_form
from tests.support.networks.families import FAMILIES, SIZES

CASES = [(name, form) for name in FAMILIES for form in FORMS]
STEPS = 110
STATE_AND_READOUT = [NEXT_STATE, NEXT_STEP, READOUT]


def spikes(count: int = 4) -> torch.Tensor:
    return (torch.rand(count, STEPS, SIZES[0], generator=torch.Generator().manual_seed(0)) < 0.15).float()


@pytest.mark.parametrize(("name", "form"), CASES)
def test_every_implementation_has_the_same_bits_in_chunks_around_the_delay(name: str, form: Form) -> None:
    made, longest = exported_family(name, form, longest_everywhere=True)
    compiled, graphs = made.compiled, made.graphs
    streams = Streams(spikes(), torch.tensor([STEPS, 3, STEPS // 2, STEPS]))
    differences = verify_form(compiled, graphs, made.script, streams)
    assert [(d.labels, d.spikes, d.readout) for d in differences] == [(0, 0, 0.0)] * len(differences)
    whole = run_graph(next(iter(graphs.values())), compiled.layout, streams, 2, [STEPS])
    assert whole.hidden[0].any()
    for runtime, graph in graphs.items():
        for cut in (1, longest - 1, longest, longest + 1):
            parts = run_graph(graph, compiled.layout, streams, 2, [cut])
            assert np.array_equal(whole.readout, parts.readout), (runtime, cut)
            assert all(np.array_equal(a, b) for a, b in zip(whole.hidden, parts.hidden, strict=True)), (runtime, cut)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_mate_of_another_age_changes_nothing(name: str, form: Form) -> None:
    made, _ = exported_family(name, form)
    row, x = initial_row(made.compiled.layout, 1), spikes(2).numpy()
    for graph in made.graphs.values():

        def run(chunk: np.ndarray, state: dict[str, np.ndarray], graph: Graph = graph) -> dict[str, np.ndarray]:
            lengths = np.full(len(chunk), chunk.shape[1], np.int64)
            return graph.run(chunk_feed(chunk, lengths) | state, STATE_AND_READOUT)

        older = run(x[:1, :33], row)
        assert older[NEXT_STATE].any()
        state = {STATE: older[NEXT_STATE], STEP: older[NEXT_STEP]}
        alone = run(x[:1, 33:60], state)
        mates = {key: np.concatenate([state[key], row[key]]) for key in (STATE, STEP)}
        together = run(np.concatenate([x[:1, 33:60], x[1:, :27]]), mates)
        assert np.array_equal(together[READOUT][0], alone[READOUT][0])
        assert np.array_equal(together[NEXT_STATE][0], alone[NEXT_STATE][0])


@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_silence_of_two_thousand_steps_adds_nothing(name: str, form: Form) -> None:
    made, _ = exported_family(name, form)
    compiled, graph = made.compiled, made.graph
    out = graph.run(
        chunk_feed(spikes(1).numpy(), np.array([STEPS])) | initial_row(compiled.layout, 1), STATE_AND_READOUT
    )
    heard = np.abs(out[NEXT_STATE][0, : -2 * SIZES[2]]).max()  # behind it is the score, a sum over all steps
    assert heard > 0
    for _ in range(2):
        silence = chunk_feed(np.zeros((1, 1_000, SIZES[0]), np.float32), np.array([1_000]))
        out = graph.run(silence | {STATE: out[NEXT_STATE], STEP: out[NEXT_STEP]}, STATE_AND_READOUT)
    assert out[NEXT_STEP][0] == STEPS + 2_000
    assert np.isfinite(out[NEXT_STATE]).all()
    left = np.abs(out[NEXT_STATE][0, : -2 * SIZES[2]]).max()
    assert left < 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_taps_of_which_one_is_on_are_todays_network(form: Form) -> None:
    spec = NetworkSpec(*SIZES)
    plain = Network(spec, seed=3).eval()
    taps, two = (PathSpec(4, count, learn_delays=False, initial="even") for count in (5, 2))
    tapped = Network(replace(spec, input_path=taps, recurrent_path=two), seed=4).eval()
    with torch.no_grad():
        for one, other in zip(plain.layers, tapped.layers, strict=True):
            one.get_parameter("w_in").mul_(3.0)
            values = dict(one.named_parameters())
            for path in ("in", "rec"):
                if f"w_{path}" in values:  # the readout has no recurrence
                    units = values[f"w_{path}"].shape[1]
                    other.get_parameter(f"w_{path}").zero_()[:, :units] = values[f"w_{path}"]
                    other.get_parameter(f"r_{path}")[:, :units] = values[f"r_{path}"]
    plain.fit_banks(size=8)
    tapped.banks = plain.banks
    a, b = plain.rollout(spikes(), form), tapped.rollout(spikes(), form)
    assert a.hidden_spikes[0].any()
    assert torch.equal(a.readout, b.readout)
