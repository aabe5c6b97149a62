from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hetsyn_client.extras import install_command
from service.errors import ArtifactError, RuntimeUnavailable
from service.runtime import onnx as runtime
from service.runtime.onnx import check_runtime, explain, load_graph, operator_status, operators_problem
from service.runtime.operators import MODE, library
from tests.support.paths import ROOT
from tests.support.tools import NO_OPERATOR


def leaky_sum() -> bytes:
    """next.v = 0.5 state.v + x, y = 2 next.v"""
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["half"], value_float=0.5),
            helper.make_node("Constant", [], ["two"], value_float=2.0),
            helper.make_node("Mul", ["state.v", "half"], ["left"]),
            helper.make_node("Add", ["left", "x"], ["next.v"]),
            helper.make_node("Mul", ["next.v", "two"], ["y"]),
        ],
        "leaky_sum",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("x", "state.v")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("next.v", "y")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_a_real_graph_runs() -> None:
    graph = load_graph(leaky_sum())
    assert graph.inputs == ("x", "state.v")
    assert graph.outputs == ("next.v", "y")
    x = np.array([[1, 2], [3, 4]], np.float32)
    first = graph.run({"x": x, "state.v": np.zeros((2, 2), np.float32)}, ["next.v"])
    second = graph.run({"x": x, "state.v": first["next.v"]}, ["y", "next.v"])
    assert list(first) == ["next.v"]
    np.testing.assert_array_equal(second["next.v"], 1.5 * x)
    np.testing.assert_array_equal(second["y"], 3 * x)


def test_state_of_one_stream_may_be_read_only() -> None:
    state = np.zeros((1, 2), np.float32)
    state.flags.writeable = False
    load_graph(leaky_sum()).run({"x": state, "state.v": state}, ["y"])
    assert not state.any()


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x00" * 100])
def test_what_is_no_graph_is_refused(content: bytes) -> None:
    with pytest.raises(ArtifactError, match="cannot load the graph"):
        load_graph(content)


def test_inputs_that_the_graph_does_not_take_are_refused() -> None:
    graph = load_graph(leaky_sum())
    with pytest.raises(ArtifactError, match="failed"):
        graph.run({"x": np.zeros((1, 2), np.float32)}, ["y"])
    with pytest.raises(ArtifactError, match="failed"):
        graph.run({"x": np.zeros((1, 3), np.float32), "state.v": np.zeros((1, 2), np.float32)}, ["y"])


def test_a_missing_or_doubled_runtime_is_explained_with_the_command() -> None:
    assert explain(["onnxruntime"], importable=True) is None
    assert install_command("cpu") in str(explain([], importable=False))
    doubled = str(explain(["onnxruntime", "onnxruntime-gpu"], importable=True))
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in doubled
    assert install_command("cpu") in doubled
    assert MEND in str(explain(["onnxruntime-gpu"], importable=False))


MEND = f"pip uninstall -y onnxruntime onnxruntime-gpu, then {install_command('cpu')}"


@pytest.mark.parametrize("installed", [[], ["onnxruntime"]])
def test_a_half_removed_runtime_is_explained(monkeypatch: pytest.MonkeyPatch, installed: list[str]) -> None:
    """What uninstalling one of two doubled wheels leaves: a folder without ``__init__.py``."""
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    monkeypatch.setattr(runtime, "_installed", lambda: installed)
    for use in (check_runtime, lambda: load_graph(b"")):
        with pytest.raises(RuntimeUnavailable) as caught:
            use()
        assert "is incomplete" in str(caught.value)
        assert MEND in str(caught.value)


def test_a_runtime_whose_module_is_gone_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(runtime, "_installed", lambda: ["onnxruntime"])
    with pytest.raises(RuntimeUnavailable, match="onnxruntime is installed, but its module is not there") as caught:
        check_runtime()
    assert MEND in str(caught.value)


@pytest.mark.parametrize(
    "cause", [ImportError("no libcudart"), ModuleNotFoundError("no capi", name="onnxruntime.capi")]
)
def test_a_broken_runtime_is_explained(monkeypatch: pytest.MonkeyPatch, cause: ImportError) -> None:
    def broken(_: str) -> None:
        raise cause

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(RuntimeUnavailable, match=f"ONNX Runtime is broken .{cause}") as caught:
        check_runtime()
    assert MEND in str(caught.value)


def test_a_missing_runtime_is_found_when_it_is_needed() -> None:
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from service.errors import RuntimeUnavailable\n"
        "from service.runtime import onnx\n"
        "onnx.DISTRIBUTIONS = ()\n"
        "try: onnx.load_graph(b'')\n"
        "except RuntimeUnavailable as error: print(error)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.startswith("ONNX Runtime is not installed: pip install")


def test_a_library_that_cannot_be_used_leaves_plain_onnx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "_network.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr("service.runtime.onnx.library", lambda: broken)
    assert "_network.so" in str(operators_problem())
    state = np.ones((1, 2), np.float32)
    assert load_graph(leaky_sum()).run({"x": state, "state.v": state}, ["y"])["y"].any()
    assert "plain ONNX runs instead" in caplog.text


@pytest.mark.skipif(library() is None, reason=NO_OPERATOR)
def test_a_library_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take the graph and fail in the first chunk, which looks like a damaged model."""
    assert operators_problem() is None
    monkeypatch.setattr("service.runtime.operators.GRAPH_VERSION", 0)
    problem = str(operator_status().problem)
    assert "_network.so cannot be used (another version of hetsyn has built it): install hetsyn again" in problem
    session = runtime._session

    def plain(ort: Any, content: bytes, threads: int, operators: Path | None) -> Any:
        assert operators is None
        return session(ort, content, threads, operators)

    monkeypatch.setattr(runtime, "_session", plain)
    load_graph(leaky_sum())
    monkeypatch.setenv(MODE, "require")
    with pytest.raises(RuntimeUnavailable, match=r"require, and _network\.so cannot be used .another version"):
        load_graph(leaky_sum())


def test_a_library_that_cannot_be_used_is_refused_where_it_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "_network.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr("service.runtime.onnx.library", lambda: broken)
    monkeypatch.setenv(MODE, "require")
    with pytest.raises(ArtifactError, match=r"_network\.so cannot run the graph"):
        load_graph(leaky_sum())
    with pytest.raises(RuntimeUnavailable, match=r"HETSYN_OPERATORS=require, and _network\.so cannot be loaded"):
        check_runtime()
    status = operator_status()
    assert (status.built, status.in_use, status.kernel) == (True, False, None)


def test_an_operator_that_is_not_built_is_refused_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runtime.onnx.library", lambda: None)
    check_runtime()
    monkeypatch.setenv(MODE, "require")
    with pytest.raises(RuntimeUnavailable, match="require, and the operator is not built: install hetsyn again"):
        check_runtime()
    assert "many times slower: the operator is not built" in operator_status().sentence


def test_the_operator_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODE, "off")
    assert library() is None
    assert "switched off by HETSYN_OPERATORS=off" in operator_status().sentence
    check_runtime()


def test_a_wrong_setting_is_one_line_where_the_operator_is_looked_up() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service.runtime.operators"],
        cwd=ROOT, env=os.environ | {MODE: "on"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "hetsyn: HETSYN_OPERATORS=on: off, require, or leave it out\n")


@pytest.mark.skipif(library() is None, reason=NO_OPERATOR)
def test_an_operator_in_use_names_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODE, "require")
    check_runtime()
    status = operator_status()
    assert status.built
    assert status.in_use
    assert status.kernel in ("v2", "v3", "v4", "generic")
    assert status.sentence == f"operator: {status.kernel}"
