"""What a NIR file cannot be: one sentence that names the node and says what to do, and nothing written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tools import NO_NIR

pytest.importorskip("nir", reason=NO_NIR)

import h5py
import nir

from export import ExportError, import_nir
from export.nir import NirError, Unsupported
from export.nir.reading import from_nir, read_graph
from tests.support.networks import nir_graphs as graphs

GIVEN: dict[str, Any] = {"dt": 1e-3, "rule": "euler", "reset": "zero"}


def layer(*nodes: Any, **ends: Any) -> Any:
    return graphs.chain(graphs.linear(4, 6), graphs.lif(4), *nodes, **ends)


def nan_weights() -> Any:
    weights = graphs.linear(4, 6)
    weights.weight[1, 2] = np.nan
    return graphs.chain(weights)


def loop_of_weights() -> Any:
    return graphs.graph(
        {"fc": graphs.linear(4, 6), "a": graphs.linear(4, 4), "b": graphs.linear(4, 4)},
        [("in", "fc"), ("fc", "a"), ("a", "b"), ("b", "a"), ("b", "out")],
    )


def both_ways() -> Any:
    return graphs.graph(
        {"fc": graphs.linear(4, 6), "one": graphs.lif(4), "w": graphs.linear(4, 4), "two": graphs.lif(4)},
        [("in", "fc"), ("fc", "one"), ("one", "w"), ("w", "one"), ("w", "two"), ("two", "w"), ("two", "out")],
    )


REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "NaN weights": (nan_weights, {}, "node 'n0': its weight has NaN or infinite values: train the network again"),
    "no dt": (
        lambda: layer(),
        {"dt": None},
        "node 'n1' needs the duration of a step, which NIR does not hold: give --dt",
    ),
    "no rule": (lambda: layer(), {"rule": None}, "node 'n1' needs an integration rule, which NIR does not hold: give"),
    "no reset": (lambda: layer(), {"reset": None}, "node 'n1' is reset at a spike, and NIR does not say how: give"),
    "another rule": (
        lambda: layer(),
        {"rule": "heun"},
        "--rule 'heun' is none of euler, exponential: give one",
    ),
    "another producer": (lambda: layer(), {"producer": "brian"}, "--producer 'brian' is none of snntorch, norse"),
    "dt of 0": (lambda: layer(), {"dt": 0.0}, "--dt 0 is not a duration: give the seconds of a step, above 0"),
    "a step as long as tau": (
        lambda: layer(),
        {"dt": 0.01},
        "node 'n1': its tau is 0.01 s, not longer than a step of 0.01 s: give the --dt of the file, or --rule",
    ),
    "tau of 0": (
        lambda: graphs.chain(graphs.linear(4, 6), graphs.lif(4, tau=0.0)),
        {},
        "node 'n1': its tau is not above 0: give time constants in seconds",
    ),
    "a reset potential that subtraction does not use": (
        lambda: graphs.chain(graphs.linear(4, 6), graphs.lif(4, reset=-0.2)),
        {"reset": "subtract"},
        "node 'n1' has a reset potential that is not 0, which --reset subtract does not use: give --reset zero",
    ),
    "a loop without delay": (loop_of_weights, {}, "the loop 'a' -> 'b' has no delay: put a neuron or a Delay"),
    "a delay that is not clear": (
        both_ways,
        {},
        "node 'w' leads both forward and back from 'one', so its delay is not",
    ),
    "weights that do not fit": (
        lambda: graphs.chain(graphs.linear(4, 6), graphs.lif(4), graphs.linear(3, 5)),
        {},
        "node 'n2' gets shape [4] from 'n1', but its weight takes 5: make them equal",
    ),
    "neurons that do not fit": (
        lambda: graphs.chain(graphs.linear(4, 6), graphs.lif(5)),
        {},
        "node 'n1' gets shape [4] from 'n0', but its tau has shape [5]: make them equal",
    ),
    "sums that do not fit": (
        lambda: graphs.graph(
            {"a": graphs.linear(4, 6), "b": graphs.linear(3, 6), "c": graphs.lif(4)},
            [("in", "a"), ("in", "b"), ("a", "c"), ("b", "c"), ("c", "out")],
        ),
        {},
        "node 'c' adds up shape [4] from 'a' and shape [3] from 'b': give both the same shape",
    ),
    "an image of another size": (
        lambda: graphs.chain(graphs.image_network().nodes["n0"]),
        {},
        "node 'n0' gets shape [6] from 'in', but it takes [2, height, width]: make them equal",
    ),
    "a kernel beyond the image": (
        lambda: graphs.chain(
            nir.Conv2d(None, np.ones((1, 1, 5, 5)), 1, 0, 1, 1, np.zeros(1)), inputs=(1, 3, 9), outputs=(1, 1, 5)
        ),
        {},
        "node 'n0': its kernel of 5 does not fit into a side of 3: choose less",
    ),
    "a bias of another size": (
        lambda: graphs.chain(nir.Affine(np.ones((4, 6)), np.zeros(3))),
        {},
        "node 'n0': its bias has shape [3] for 4 outputs: give one number an output",
    ),
    "sides that are not there": (
        lambda: graphs.chain(nir.Flatten(None, 0, 3), outputs=6),
        {},
        "node 'n0': joins sides 0 to 3 of 1: count them from 0, without the batch",
    ),
    "no way to the Output": (
        lambda: graphs.graph({"fc": graphs.linear(4, 6)}, [("in", "fc")]),
        {},
        "no edges lead from 'in' to 'out': connect them",
    ),
    "a node without input": (
        lambda: graphs.graph(
            {"fc": graphs.linear(4, 6), "alone": graphs.lif(4)}, [("in", "fc"), ("fc", "out"), ("alone", "out")]
        ),
        {},
        "node 'alone' gets no input: add an edge to it, or take it out",
    ),
    "an edge to nowhere": (
        lambda: graphs.graph({"fc": graphs.linear(4, 6)}, [("in", "fc"), ("fc", "gone"), ("fc", "out")]),
        {},
        "an edge names node 'gone', which the graph does not have: add it",
    ),
    "an edge twice": (
        lambda: graphs.graph({"fc": graphs.linear(4, 6)}, [("in", "fc"), ("in", "fc"), ("fc", "out")]),
        {},
        "the edge from 'in' to 'fc' stands there twice: keep one of them",
    ),
    "two Inputs": (
        lambda: graphs.graph(
            {"fc": graphs.linear(4, 6), "more": nir.Input(np.array([4]))},
            [("in", "fc"), ("fc", "out"), ("more", "out")],
        ),
        {},
        "the graph has 2 Input nodes, not one: give it one Input of all values",
    ),
    "a delay that no server would hold": (
        lambda: layer(nir.Delay(graphs.full(4, 1e5))),
        {},
        "node 'n2': a delay of 1e+08 steps: give a longer --dt",
    ),
    "labels that do not fit": (
        lambda: layer(),
        {"labels": ["a", "b"]},
        "2 labels for 4 outputs: give --labels with one name an output",
    ),
    "a probe that does not fit": (
        lambda: layer(),
        {"probe": np.zeros((2, 5, 3))},
        "the probe has shape [2, 5, 3]: give [stream, steps, 6]",
    ),
    "a probe of no numbers": (
        lambda: layer(),
        {"probe": np.full((2, 5, 6), np.nan)},
        "the probe is empty, or has values that are not finite",
    ),
    "an empty probe": (lambda: layer(), {"probe": np.zeros((0, 5, 6))}, "the probe is empty, or has values"),
    "complex weights": (
        lambda: graphs.chain(nir.Linear(np.ones((4, 6)) * 1j), graphs.lif(4)),
        {},
        "node 'n0': its weight is not an array of numbers: write it again",
    ),
    "weights beyond float32": (
        lambda: graphs.chain(nir.Linear(graphs.full((4, 6), 1e39)), graphs.lif(4)),
        {},
        "node 'n0': its weight has values beyond float32: give smaller ones",
    ),
    "an edge out of the Output": (
        lambda: graphs.graph({"fc": graphs.linear(4, 4)}, graphs.paths("in fc out fc"), inputs=4),
        {},
        "the edge from 'out' to 'fc' leads out of the Output or into the Input: remove it",
    ),
    "an edge into the Input": (
        lambda: graphs.graph({"fc": graphs.lif(4)}, graphs.paths("in fc out", "fc in"), inputs=4),
        {},
        "the edge from 'fc' to 'in' leads out of the Output or into the Input: remove it",
    ),
    "two nodes of one name": (
        lambda: graphs.graph(
            {"a": graphs.chain(graphs.lif(4), inputs=4), "a.n0": graphs.linear(4, 4)},
            graphs.paths("in a out", "in a.n0 out"),
            inputs=4,
        ),
        {},
        "two nodes are named 'a.n0', with the graph around one: rename one of them",
    ),
    "a file of ours whose step is a text": (
        lambda: layer(**{"hetsyn.dt": "short"}),
        {"dt": None},
        "the file's hetsyn.dt is 'short', not a number",
    ),
    "a file of ours without a duration": (
        lambda: layer(**{"hetsyn.dt": 0.0}),
        {"dt": None},
        "0 is not a duration: give the seconds of a step",
    ),
    "steps that do not count below 0": (lambda: layer(), {"skip_steps": -1}, "skip_steps is -1: give 0 or more"),
    "numbers that grow": (
        lambda: graphs.graph(
            {"fc": graphs.linear(4, 6), "i": nir.I(graphs.full(4, 1e3)), "w": nir.Linear(np.eye(4) * 9.0)},
            [("in", "fc"), ("fc", "i"), ("i", "w"), ("w", "i"), ("i", "out")],
        ),
        {},
        "in 100 steps: look at its loops",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_one_sentence_says_what_to_do(what: str, tmp_path: Path) -> None:
    make, options, sentence = REFUSED[what]
    with pytest.raises((NirError, ExportError)) as refusal:
        import_nir(make(), out=tmp_path / "m" / "1", **GIVEN | options)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_a_node_of_an_unknown_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "network.nir"
    nir.write(path, graphs.chain(graphs.recurrent(graphs.lif(6), graphs.linear(6, 6), 6), outputs=6))
    with h5py.File(path, "a") as file:
        del file["node/nodes/n0/nodes/lif/type"]
        file["node/nodes/n0/nodes/lif/type"] = "AdEx"
    with pytest.raises(Unsupported, match=r"node 'n0\.lif' is a AdEx, which is not supported: rewrite it with Input, "):
        read_graph(path)


def test_a_node_of_another_library_is_named() -> None:
    class Resonator(nir.ir.NIRNode):  # type: ignore[misc]
        def __init__(self) -> None:
            self.metadata: dict[str, Any] = {}

    with pytest.raises(Unsupported, match="node 'n0' is a Resonator, which is not supported"):
        from_nir(graphs.chain(Resonator()))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "no such file: name a NIR file, as nir.write() writes it"),
        (b"no HDF5", "not a NIR file"),
        ("empty", "an HDF5 file without a NIR graph: write it with nir.write()"),
        ("node", "nir cannot read it"),
    ],
)
def test_files_that_are_no_graph(content: bytes | str | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "file.nir"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        with h5py.File(path, "w") as file:
            if content == "node":
                file.create_group("node")["other"] = 1
    with pytest.raises(NirError) as refusal:
        read_graph(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert sentence in str(refusal.value)


def test_a_single_node_is_no_graph(tmp_path: Path) -> None:
    nir.write(tmp_path / "node.nir", graphs.lif(3))
    with pytest.raises(NirError, match="a single LIF, not a graph: put it between Input and Output"):
        read_graph(tmp_path / "node.nir")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="artifacts are never overwritten, choose another version"):
        import_nir(layer(), out=tmp_path / "m" / "1", **GIVEN)


def test_without_the_library_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(NirError, match=r"NIR files need nir: pip install -e '\.\[nir\]' in the checkout of hetsyn"):
        read_graph(tmp_path / "network.nir")
