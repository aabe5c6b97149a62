"""The GPU's kernel, compiled for the CPU, against the CPU's operator: every output to the bit.

``tests/support/emulation.cpp`` plays a block of one thread, and one of eight threads in warps of four that really run
at the same time, so that a missing barrier shows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.network_graph import network_graph
from export.parity import chunk_feed, initial_row
from hetsyn_model import Network
from hetsyn_model.spec import Rule
from hetsyn_model.state import Form
from service.contract.graph_io import (
    EVENT_ROW,
    EVENT_UNIT,
    NEXT_STATE,
    NEXT_STEP,
    PROBABILITIES,
    READOUT,
    SCORES,
    STATE,
    STEP,
    STEPS,
    spikes_name,
)
from service.errors import ArtifactError
from service.runtime import operators
from service.runtime.onnx import Array, Graph, load_graph
from service.runtime.operators import library
from tests.support.delays import PATHS, delayed_network
from tests.support.families import FAMILIES, family_network
from tests.support.networks import CASES, small_network
from tests.support.paths import GOLDEN, ROOT, SUPPORT
from tests.support.tools import NO_COMPILER, NO_CUDA_COMPILER, NO_OPERATOR, cpp_compiler

SOURCES = Path(operators.__file__).parent
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wsign-conversion", "-Werror")
SANITIZERS = os.environ.get("CXXFLAGS", "").split()  # .ci/sanitize
# never unloaded: ziglang builds the C++ library into it, and threads that end later still call its clean-up
SHARED = ("-fPIC", "-shared", "-Wl,-z,nodelete")
FLAGS = ("-std=c++20", "-O2", "-ffp-contract=off", "-fvisibility=hidden", *SHARED, *WARNINGS, *SANITIZERS)
BLOCKS = {"one thread": (), "eight threads": ("-DHETSYN_THREADS=8", "-DHETSYN_LANES=4")}
COMPILER = cpp_compiler()
FORMS: tuple[Form, ...] = ("exact", "bank")

pytestmark = [
    pytest.mark.skipif(library() is None, reason=NO_OPERATOR),
    pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER),
]


@pytest.fixture(scope="module", params=list(BLOCKS))
def emulation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("emulation") / "emulation.so"
    source = str(SUPPORT / "emulation.cpp")
    compile_cpp(*FLAGS, *BLOCKS[request.param], f"-I{SOURCES}", source, "-o", str(built))
    return built


def compile_cpp(*arguments: str) -> None:
    assert COMPILER is not None
    subprocess.run([*COMPILER, *arguments], check=True)


def load(content: bytes, built: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    with monkeypatch.context() as patch:
        patch.setattr("service.runtime.onnx.library", lambda: built)
        return load_graph(content)


def chunks(graph: Graph, made: Network, form: Form, cuts: list[int]) -> list[dict[str, Array]]:
    """All outputs of chunks of these lengths, for streams of which some have fewer steps."""
    rng = np.random.default_rng(0)
    state = initial_row(made.compile(form).layout, 4)
    got = []
    for cut in cuts:
        inputs = (rng.random((4, cut, made.spec.channels)) < 0.1).astype(np.float32)
        if made.spec.takes_values:
            inputs *= rng.normal(size=inputs.shape).astype(np.float32)
        feed = chunk_feed(inputs, np.array([cut, cut // 2, 0, cut], np.int64), made.spec.input_kind)
        out = graph.run(feed | state, list(graph.outputs))
        state = {STATE: out[NEXT_STATE], STEP: out[NEXT_STEP]}
        got.append(out)
    return got


@pytest.mark.parametrize(("name", "rule"), CASES)
@pytest.mark.parametrize("form", FORMS)
def test_a_block_gives_the_operators_bits(
    emulation: Path, monkeypatch: pytest.MonkeyPatch, name: str, rule: Rule, form: Form
) -> None:
    # more channels than an exact neuron has partial sums, more neurons than a block has threads
    made = small_network(name, rule, channels=70, hidden=(37, 9), recurrent=rule != "trace", bias=rule == "last")
    assert_same_bits(emulation, monkeypatch, made, form)


@pytest.mark.parametrize(("name", "rule"), [("hetsyn", "sum_softmax"), ("hetneu", "spike_count"), ("lif-zero", "last")])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("form", FORMS)
def test_a_block_gives_the_operators_bits_with_delays(
    emulation: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str, rule: Rule, form: Form
) -> None:
    made = delayed_network(path, name, rule, channels=70, hidden=(37, 9), bias=rule == "last")
    assert_same_bits(emulation, monkeypatch, made, form)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_block_gives_the_operators_bits_of_a_family(
    emulation: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert_same_bits(emulation, monkeypatch, family_network(name)[0], "bank")


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("hetsyn", "spike_count"),
        ("hetsyn-own", "last"),
        ("hetneu", "spike_count"),
        ("alif", "last"),
        ("lif-zero", "trace"),
        ("hetsyn-membrane", "sum_softmax"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [1, 70])
def test_a_block_gives_the_operators_bits_of_values(
    emulation: Path, monkeypatch: pytest.MonkeyPatch, name: str, rule: Rule, form: Form, channels: int
) -> None:
    sizes: dict[str, Any] = {"channels": channels, "hidden": (37, 9)}
    made = small_network(name, rule, recurrent=rule != "trace", bias=rule == "last", input_kind="values", **sizes)
    with torch.no_grad():
        made.layer("hidden1").w_in.mul_(4.0)
    assert_same_bits(emulation, monkeypatch, made, form)


def assert_same_bits(emulation: Path, monkeypatch: pytest.MonkeyPatch, made: Network, form: Form) -> None:
    content = network_graph(made.compile(form))
    lengths = np.array([[12, 1, 7], [6, 0, 3], [0, 0, 0], [12, 1, 7]])
    expected = chunks(load_graph(content), made, form, [12, 1, 7])
    got = chunks(load(content, emulation, monkeypatch), made, form, [12, 1, 7])
    assert any(out[spikes_name("hidden1")][0].any() for out in expected)
    for chunk, (have, want) in enumerate(zip(got, expected, strict=True)):
        for output, values in want.items():
            for stream, steps in enumerate(lengths[:, chunk]):
                undefined = steps if output == READOUT or output.endswith(".spikes") else None
                a, b = have[output][stream], values[stream]
                if undefined is not None:
                    a, b = a[:undefined], b[:undefined]
                assert a.tobytes() == b.tobytes(), f"{output} of stream {stream} in chunk {chunk}"


@pytest.mark.parametrize("form", FORMS)
def test_a_block_gives_the_operators_bits_of_a_score_of_one_word(
    emulation: Path, monkeypatch: pytest.MonkeyPatch, form: Form
) -> None:
    content = (GOLDEN / "format-2" / "1" / f"{form}.onnx").read_bytes()
    with np.load(GOLDEN / "format-2" / "expected.npz") as expected:
        spikes = expected["spikes"][:, :400].astype(np.float32)
        words = expected[f"{form}.state"].shape[1]
    feed = chunk_feed(spikes, np.array([400, 399])) | {STATE: np.zeros((2, words), np.float32), STEP: np.zeros(2, int)}
    want = load_graph(content).run(feed, [NEXT_STATE, SCORES, PROBABILITIES])
    got = load(content, emulation, monkeypatch).run(feed, [NEXT_STATE, SCORES, PROBABILITIES])
    assert all(np.array_equal(got[output], values) for output, values in want.items())  # of zeros the sign may differ


def test_a_call_is_checked_as_the_cpus_is(emulation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small_network("hetsyn", "last", channels=6, hidden=(4,), recurrent=True, bias=False)
    graph = load(network_graph(made.compile("bank")), emulation, monkeypatch)
    inputs = initial_row(made.compile("bank").layout, 1) | {STEPS: np.array([2], np.int64)}
    events = {EVENT_ROW: np.array([2], np.int64), EVENT_UNIT: np.array([0], np.int64)}
    with pytest.raises(ArtifactError, match="events are not in ascending rows, or outside"):
        graph.run(inputs | events, [SCORES])


@pytest.mark.parametrize("source", ["register.cpp", "kernels.cpp"])
def test_the_cpus_operator_compiles_without_a_warning(source: str, tmp_path: Path) -> None:
    options = ["-std=c++17", "-fPIC", *WARNINGS, "-DHETSYN_LEVEL=v2", f"-I{ROOT / 'build_support'}"]
    # an object, and not -fsyntax-only: with that, zig warns of an option of its own
    compile_cpp(*options, "-c", str(SOURCES / source), "-o", str(tmp_path / "object.o"))


@pytest.mark.skipif(shutil.which("nvcc") is None, reason=NO_CUDA_COMPILER)
def test_nvcc_contracts_nothing_in_the_kernel(tmp_path: Path) -> None:
    """A fused multiply-add would round once where the CPU's operator rounds twice."""
    ptx = tmp_path / "network.ptx"
    rules = (ROOT / "Makefile").read_text()
    flags = ("-std=c++17", "-O3", "--fmad=false", "-ftz=true")
    assert f"$(NVCC) {' '.join(flags)}" in rules
    source = str(SOURCES / "network.cu")
    subprocess.run(["nvcc", *flags, "-ptx", "-arch=sm_80", source, "-o", str(ptx)], check=True)
    code = ptx.read_text()
    assert ".entry" in code
    assert re.search(r"\b(fma|mad)\S*\.f(32|64)", code) is None
    assert re.search(r"\badd\.rn\.ftz\.f32", code)
