"""A NIR graph in steps: each node against its equation, the torch cell against a reference in NumPy."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from tests.support.tools import NO_NIR

pytest.importorskip("nir", reason=NO_NIR)

import nir

from export.nir.cell import NirCell, run_cell
from export.nir.convention import BY_PRODUCER, Convention, Reset, Rule
from export.nir.dynamics import Program, program_of
from export.nir.probe import measure, seeded_spikes
from export.nir.reading import from_nir
from tests.support.networks import nir_graphs as graphs
from tests.support.networks.nir_reference import run_reference

RULES: tuple[Rule, ...] = ("euler", "exponential")
RESETS: tuple[Reset, ...] = ("zero", "subtract-at-once", "subtract-next")
MS = Convention(dt=1e-3, rule="euler", reset="zero")


def program(graph: Any, convention: Convention = MS) -> Program:
    return program_of(from_nir(graph), convention)


def in_float64(made: Program, values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Streams through the cell in float64, which gives what the NumPy reference gives."""
    found, expected = run_cell(NirCell(made, torch.float64), values), run_reference(made, values)
    assert found.keys() == expected.keys()
    for node, trace in found.items():
        np.testing.assert_allclose(trace, expected[node], rtol=1e-9, atol=1e-9)
    return found


def of_one(graph: Any, values: Any, convention: Convention = MS) -> Any:
    """The Output in float64 for one stream, [steps, outputs]."""
    return in_float64(program(graph, convention), np.asarray(values, np.float64)[None])["out"][0]


def test_lif_by_euler_is_reset_to_its_reset_potential() -> None:
    neuron = nir.LIF(*(np.array([v]) for v in (0.004, 2.0, 0.5, 1.0, -0.25)))
    v, expected = 0.5, []
    for x in (1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0):
        v = v + 0.25 * (0.5 - v + 2.0 * x)
        expected.append(float(v > 1.0))
        v = -0.25 if v > 1.0 else v
    assert sum(expected) == 2
    assert of_one(graphs.chain(neuron, inputs=1, outputs=1), [[1], [1], [0], [1], [1], [1], [0]]).ravel().tolist() == (
        expected
    )


@pytest.mark.parametrize("reset", ["subtract-at-once", "subtract-next"])
def test_the_exponential_rule_and_both_subtractions(reset: Reset) -> None:
    neuron = nir.LIF(*(np.array([v]) for v in (0.004, 4.0, 0.0, 0.5, 0.0)))
    decay = np.exp(-0.25)
    v, z, expected = 0.0, 0.0, []
    for x in [1.0] * 12:
        v = decay * v + (1 - decay) * 4.0 * x - (0.5 * z if reset == "subtract-next" else 0.0)
        z = float(v > 0.5)
        expected.append(z)
        v = v - 0.5 * z if reset == "subtract-at-once" else v
    found = of_one(graphs.chain(neuron, inputs=1, outputs=1), [[1.0]] * 12, Convention(1e-3, "exponential", reset))
    assert found.ravel().tolist() == expected
    assert sum(expected) > 0


def test_currents_integrators_and_scales() -> None:
    x = graphs.rng().normal(size=20)
    current = v = total = 0.0
    expected: list[float] = []
    for value in x:
        current = 0.8 * current + 0.2 * 3.0 * value
        v = 0.9 * v + 0.1 * (2.0 * current + 0.1) if expected else 0.9 * 0.1 + 0.1 * (2.0 * current + 0.1)
        total += 1e-3 * 20.0 * v
        expected.append(-2.0 * total)
    network = graphs.chain(graphs.cuba_li(1), nir.I(np.array([20.0])), nir.Scale(np.array([-2.0])), inputs=1, outputs=1)
    np.testing.assert_allclose(of_one(network, x[:, None]).ravel(), expected, rtol=1e-12)


def test_convolutions_and_pooling_are_torch_s() -> None:
    image = graphs.image_network()
    for name, shape in (("n0", (2, 8, 8)), ("n2", (4, 8, 8)), ("n3", (4, 4, 4)), ("n4", (6, 1, 1))):
        node, values = image.nodes[name], torch.from_numpy(graphs.rng(2).normal(size=(3, *shape)))
        if name in ("n0", "n3"):
            arguments = (1, 1, 1, 1) if name == "n0" else (2, 0, 1, 2)
            expected = functional.conv2d(values, torch.tensor(node.weight), torch.tensor(node.bias), *arguments)
        else:
            expected = (
                functional.avg_pool2d(values, 2, 2) * 4 if name == "n2" else functional.avg_pool2d(values, (3, 2), 1, 1)
            )
        network = graphs.chain(node, nir.Flatten(None, 0, -1), inputs=shape, outputs=prod(expected.shape[1:]))
        found = [of_one(network, stream.reshape(1, -1).numpy())[0] for stream in values]
        np.testing.assert_allclose(found, expected.flatten(1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", graphs.NETWORKS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("reset", RESETS)
def test_the_cell_fires_as_in_float64(name: str, rule: Rule, reset: Reset) -> None:
    made = program(graphs.NETWORKS[name](), Convention(1e-3, rule, reset))
    found = measure(made, partial(run_cell, NirCell(made)))
    assert (found.verdict, found.different) == ("faithful", 0), found.sentence()
    assert found.spikes > 500
    assert found.output_error < 1e-5
    in_float64(made, found.gain * seeded_spikes(prod(made.shapes["in"])))


@pytest.mark.parametrize("producer", BY_PRODUCER)
def test_the_conventions_of_producers_too(producer: str) -> None:
    step = BY_PRODUCER[producer].dt or 0.0
    network = graphs.chain(
        graphs.linear(8, 6), graphs.lif(8, tau=10 * step, r=4.0), graphs.linear(4, 8, 1), graphs.if_(4, r=0.5 / step)
    )
    made = program(network, BY_PRODUCER[producer])
    found = measure(made, partial(run_cell, NirCell(made)))
    assert (found.verdict, found.different) == ("faithful", 0), found.sentence()
    assert found.spikes > 100
    in_float64(made, found.gain * seeded_spikes(6))


def test_several_spikes_in_a_step() -> None:
    sinabs = BY_PRODUCER["sinabs"]
    found = of_one(graphs.chain(graphs.if_(1, r=1.0), inputs=1, outputs=1), [[3.5], [0.0], [0.6], [-5.0]], sinabs)
    assert found.ravel().tolist() == [3.0, 0.0, 1.0, 0.0]


def test_a_loop_is_delayed_by_a_step() -> None:
    layer = graphs.recurrent(graphs.if_(1, r=1000.0), nir.Linear(np.array([[1.5]])), 1)
    found = of_one(graphs.chain(layer, inputs=1, outputs=1), [[0.6], [0.6], [0.0], [0.0]])
    assert found.ravel().tolist() == [0, 1, 1, 1]


def test_a_layer_that_leads_back_is_a_step_late_and_forward_edges_are_not() -> None:
    made = program(graphs.feedback_network())
    assert made.order.delayed == {("second", "back")}
    assert made.order.names.index("first") < made.order.names.index("second")


def test_a_delay_that_is_no_whole_number_of_steps_is_an_approximation() -> None:
    made = program(graphs.chain(nir.Delay(np.array([1.4e-3])), graphs.if_(1), inputs=1, outputs=1))
    found = measure(made, partial(run_cell, NirCell(made)))
    assert found.verdict == "approximate"
    assert "node 'n0': delays are rounded to whole steps, by up to 0.4 of a step" in found.sentence()


def test_a_cell_that_differs_is_an_approximation() -> None:
    made = program(graphs.feedback_network())
    cell = NirCell(made)
    with torch.no_grad():
        for name, buffer in cell.named_buffers():
            if name.endswith(".threshold"):
                buffer.mul_(1.01)
    found = measure(made, partial(run_cell, cell))
    assert found.verdict == "approximate"
    assert found.different > 0
    assert f"{found.different:,} of {found.spikes:,} spikes differ" in found.sentence()
