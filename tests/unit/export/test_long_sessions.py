"""A score that adds up after millions of steps: operator, plain ONNX, TorchScript and torch against a float64 sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import prod

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from export.graphs.network_graph import network_graph
from export.graphs.torchscript import load_torchscript, torchscript
from export.parity import chunk_feed
from hetsyn_model import Compiled, DecisionSpec, Network, NetworkSpec
from hetsyn_model.readout import probabilities
from hetsyn_model.spec import Rule
from hetsyn_model.state import DECISION_SCORE, DECISION_SCORE_LOW, DECISION_STEP, FORMS, Form, State, initial_state
from hetsyn_model.step import step
from service.contract.decision import class_probabilities
from service.contract.graph_io import NEXT_STATE, NEXT_STEP, PROBABILITIES, STATE, STEP
from service.contract.manifest import Decision
from service.runtime.onnx import load_graph
from service.runtime.operators import library
from tests.support.pairs import in_pairs

CHANNELS, OUTPUTS, SKIP = 12, 3, 3
LONG = (2**24, 30_000_000)
SUMS: tuple[Rule, ...] = ("sum_softmax", "late_softmax", "spike_count")
Doubles = NDArray[np.float64]
# a state and a chunk's spikes [steps, channels] -> the state after it, and its probabilities [outputs]
Runner = Callable[[State, torch.Tensor], tuple[State, Doubles]]


def compiled_network(form: Form, rule: Rule = "sum_softmax") -> Compiled:
    spec = NetworkSpec(channels=CHANNELS, hidden=(9,), outputs=OUTPUTS, decision=DecisionSpec(rule, skip_steps=SKIP))
    made = Network(spec, seed=2).eval()
    with torch.no_grad():
        for layer in made.layers:
            layer.get_parameter("w_in").mul_(3.0)
    made.fit_banks()
    return made.compile(form).detach()


def some_spikes(steps: int, seed: int = 0) -> torch.Tensor:
    return (torch.rand(steps, CHANNELS, generator=torch.Generator().manual_seed(seed)) < 0.1).float()


def after(compiled: Compiled, total: Doubles, steps: int) -> State:
    """The state of a stream that has a score after so many steps, and no spikes lately."""
    state = initial_state(compiled.layout, 1)
    high = total.astype(np.float32)
    state[DECISION_SCORE] = torch.from_numpy(high)[None]
    if DECISION_SCORE_LOW in state:
        state[DECISION_SCORE_LOW] = torch.from_numpy((total - high).astype(np.float32))[None]
    state[DECISION_STEP] = torch.tensor([steps])
    return state


def kept(rule: Rule, counted: int, more: int) -> float:
    """What ``more`` steps leave of a score after so many that count: the first ones' share of all cubes, or all."""
    if rule != "late_softmax":
        return 1.0
    return (counted * (counted + 1) / ((counted + more) * (counted + more + 1))) ** 2


def step_error(total: float) -> float:
    """What a step may lose of a score: half a unit in the last place of a value and what the score has lost.

    Over 30 million steps these are 1.2e-7 of the score at most.
    """
    return 2.0**-24 * (1 + total * 2.0**-24)


def total_of(state: State) -> Doubles:
    """The score, [outputs]."""
    low = state.get(DECISION_SCORE_LOW, torch.zeros(1, OUTPUTS))
    return (state[DECISION_SCORE].double() + low.double())[0].numpy()


def graph_runner(
    compiled: Compiled, run: Callable[[dict[str, NDArray[np.generic]]], Sequence[NDArray[np.generic]]]
) -> Runner:
    row = [tensor for tensor in compiled.layout if tensor.dtype == "float32"]

    def runner(state: State, spikes: torch.Tensor) -> tuple[State, Doubles]:
        feed = chunk_feed(spikes[None].numpy(), np.array([len(spikes)]))
        flat = torch.cat([state[tensor.name].reshape(1, -1) for tensor in row], 1)
        values, steps, shares = run({**feed, STATE: flat.numpy(), STEP: state[DECISION_STEP].numpy()})
        pieces = torch.from_numpy(np.array(values)).split([prod(tensor.shape) for tensor in row], 1)
        new = {tensor.name: piece.reshape(1, *tensor.shape) for tensor, piece in zip(row, pieces, strict=True)}
        return new | {DECISION_STEP: torch.from_numpy(np.array(steps))}, np.asarray(shares[0], np.float64)

    return runner


def step_runner(compiled: Compiled, one: Callable[[State, torch.Tensor], State]) -> Runner:
    @torch.no_grad()
    def runner(state: State, spikes: torch.Tensor) -> tuple[State, Doubles]:
        for x in spikes:
            state = one(state, x[None])
        score = torch.from_numpy(total_of(state))[None]
        return state, probabilities(compiled.spec.decision, score, state[DECISION_STEP])[0].numpy()

    return runner


def runners(compiled: Compiled) -> Iterator[tuple[str, Runner]]:
    """Everything that runs the network, by its name."""
    content, wanted = network_graph(compiled), [NEXT_STATE, NEXT_STEP, PROBABILITIES]
    if library() is not None:
        graph = load_graph(content)
        yield "operator", graph_runner(compiled, lambda feed: [*graph.run(feed, wanted).values()])
    for level in ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        yield f"plain ONNX, {level}", graph_runner(compiled, lambda feed, session=session: session.run(wanted, feed))  # type: ignore[misc]
    script, names = load_torchscript(torchscript(compiled)), [tensor.name for tensor in compiled.layout]

    def scripted(state: State, x: torch.Tensor) -> State:
        return dict(zip(names, script(x, *(state[name] for name in names))[-len(names) :], strict=True))

    yield "TorchScript", step_runner(compiled, scripted)
    yield "torch", step_runner(compiled, lambda state, x: step(compiled, state, x)[0])


@pytest.mark.parametrize(("form", "rule", "steps"), in_pairs(product(FORMS, SUMS, LONG)))
def test_every_step_counts_in_a_session_of_any_length(form: Form, rule: Rule, steps: int) -> None:
    compiled, is_mean = compiled_network(form, rule), rule == "late_softmax"
    shares, spikes = np.array([0.7, 0.2, 0.1]), some_spikes(200)
    begun, lost = shares * (1 if is_mean else steps), 1 - kept(rule, steps - SKIP, 200)
    for name, run in runners(compiled):
        young, _ = run(after(compiled, np.zeros(OUTPUTS), steps if is_mean else SKIP), spikes)
        gained = total_of(young)
        assert gained.sum() == pytest.approx(lost, rel=1e-5) if is_mean else gained.sum() > 10, name
        old, got = run(after(compiled, begun, steps), spikes)
        bound = 200 * step_error(steps) if not is_mean else 1e-5 * lost
        np.testing.assert_allclose(total_of(old) - begun, gained - lost * begun, rtol=0, atol=bound, err_msg=name)
        if rule != "spike_count":
            truth = (begun * (1 - lost) + gained) / (1 if is_mean else steps + 200 - SKIP)
            np.testing.assert_allclose(got, truth, rtol=0, atol=1e-6, err_msg=name)
            assert got.sum() == pytest.approx(truth.sum(), abs=1e-6), name
        for network_state in set(old) - {DECISION_SCORE, DECISION_SCORE_LOW, DECISION_STEP}:
            assert torch.equal(old[network_state], young[network_state]), f"{name}: {network_state}"


@pytest.mark.parametrize(("form", "rule", "steps"), in_pairs(product(FORMS, SUMS[:2], (0, 1000, *LONG))))
def test_implementations_add_up_to_the_same_bits(form: Form, rule: Rule, steps: int) -> None:
    """In silence, where each softmax is a third to the bit; elsewhere their exponentials differ in the last one."""
    compiled, silence = compiled_network(form, rule), torch.zeros(300, CHANNELS)
    unit = min(steps, 1) if rule == "late_softmax" else steps
    begun = after(compiled, np.array([1 / 3, 0.4, 0.7 - 0.4 - 1e-9]) * unit, steps)
    ended = {name: run(begun, silence)[0] for name, run in runners(compiled)}
    _, expected = ended.popitem()
    third = float(np.float32(1 / 3))
    counted = 300 if steps else 300 - SKIP
    share = kept(rule, max(0, steps - SKIP), counted)
    added = (1 - share) * third if rule == "late_softmax" else counted * third
    bound = 1e-7 if rule == "late_softmax" else 1e-3
    np.testing.assert_allclose(total_of(expected) - share * total_of(begun), added, rtol=0, atol=bound)
    for name, state in ended.items():
        for tensor, value in expected.items():
            assert torch.equal(state[tensor], value), f"{name}: {tensor}"


@pytest.mark.parametrize(("form", "rule"), in_pairs(product(FORMS, SUMS[:2])))
def test_any_cut_of_a_long_session_gives_the_same_bits(form: Form, rule: Rule) -> None:
    compiled, spikes = compiled_network(form, rule), some_spikes(120, seed=1)
    unit = 1.0 if rule == "late_softmax" else 29_999_999.7
    begun = after(compiled, np.array([0.5, 0.3, 0.2]) * unit, 30_000_000)
    for name, run in runners(compiled):
        whole, shares = run(begun, spikes)
        for cuts in ([1] * 120, [7, 1, 50, 62], [119, 1]):
            state, got = begun, shares
            for part in spikes.split(cuts):
                state, got = run(state, part)
            assert np.array_equal(got, shares), name
            assert all(torch.equal(state[tensor], value) for tensor, value in whole.items()), name


@pytest.mark.parametrize("form", FORMS)
def test_counts_above_what_a_float32_holds_differ_by_a_spike(form: Form) -> None:
    counts = np.array([2.0**24 + 1, 2.0**24, 2.0**24 + 3])
    expected = np.exp(counts - counts.max()) / np.exp(counts - counts.max()).sum()
    compiled = compiled_network(form, "spike_count")
    for name, run in runners(compiled):
        _, got = run(after(compiled, counts, 2**25), torch.zeros(1, CHANNELS))
        np.testing.assert_allclose(got, expected, atol=1e-6, err_msg=name)
    high = counts.astype(np.float32)
    decision = Decision(rule="spike_count", skip_steps=0, tail_steps=0)
    served = class_probabilities(decision, high, 2**25, (counts - high).astype(np.float32))
    np.testing.assert_allclose(served, expected, atol=1e-6)
