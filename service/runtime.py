"""The seam to ONNX Runtime, and the only file that imports it.

A graph has no memory: state goes in and comes out with every call. Our own operators are registered with every
session where they were built; ``use_operators=False`` leaves a graph to the plain ONNX that it carries.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import ArtifactError, RuntimeUnavailable
from service.operators import library

Array = NDArray[Any]

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
INSTALL = "pip install 'hetsyn[cpu]' (or 'hetsyn[gpu]' on a machine with an NVIDIA GPU)"
REPAIR = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'hetsyn[cpu]' (or 'hetsyn[gpu]')"
NEEDED = ("InferenceSession", "SessionOptions", "ExecutionMode")
WARNINGS_UP = 3  # ONNX Runtime's log severity: errors alone
_log = logging.getLogger(__name__)


class Graph(Protocol):
    """A loaded graph. ``run`` may be called from several threads; what it returns is the caller's to keep."""

    @property
    def inputs(self) -> tuple[str, ...]: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """The named outputs for these inputs.

        Raises:
            ArtifactError: the graph does not take these inputs, or fails on them.
        """
        ...


GraphLoader = Callable[[bytes], Graph]


def explain(installed: Sequence[str], importable: bool) -> str | None:
    """What is wrong with this installation of ONNX Runtime and the command that mends it; None if nothing is.

    Args:
        installed: those of ``DISTRIBUTIONS`` that are installed.
        importable: the module ``onnxruntime`` is there.
    """
    if len(installed) > 1:
        return f"{' and '.join(installed)} are both installed and overwrite each other: {REPAIR}"
    if installed and not importable:
        return f"{installed[0]} is installed, but its module is not there: {REPAIR}"
    if not importable:
        return f"ONNX Runtime is not installed: {INSTALL}"
    return None


def check_runtime() -> None:
    """Make sure that exactly one ONNX Runtime is there and that it can be imported.

    Raises:
        RuntimeUnavailable: with the command that mends it.
    """
    problem = explain(_installed(), importable=True)
    if problem:
        raise RuntimeUnavailable(problem)
    _onnxruntime()


def operators_problem() -> str | None:
    """Why the built operators cannot be used; None if they can, or if they were not built.

    Raises:
        RuntimeUnavailable: there is no ONNX Runtime.
    """
    built = library()
    if built is None:
        return None
    try:
        _onnxruntime().SessionOptions().register_custom_ops_library(str(built))
    except _failures() as error:
        return _first_line(error)
    return None


def load_graph(content: bytes, *, threads: int = 1, use_operators: bool = True) -> Graph:
    """A graph from the bytes of an ONNX file, on the CPU.

    Bytes, not a path: what was verified is what is loaded, and external data cannot be referred to.

    Args:
        threads: of one call of ``run``.
        use_operators: run our operators, where they were built, in place of the plain ONNX that stands for them.

    Raises:
        RuntimeUnavailable: there is no ONNX Runtime.
        ArtifactError: ONNX Runtime cannot load it.
    """
    ort = _onnxruntime()
    failures = _failures()
    built = library() if use_operators else None
    try:
        try:
            return _OrtGraph(_session(ort, content, threads, built), failures)
        except failures as error:
            if built is None:
                raise
            _log.warning("%s is left out, plain ONNX takes over: %s", built, _first_line(error))
        return _OrtGraph(_session(ort, content, threads, None), failures)
    except failures as error:
        raise ArtifactError(f"ONNX Runtime {ort.__version__} cannot load the graph ({_first_line(error)})") from error


def _session(ort: Any, content: bytes, threads: int, operators: Path | None) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = WARNINGS_UP
    if operators is not None:
        options.register_custom_ops_library(str(operators))
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class _OrtGraph:
    def __init__(self, session: Any, failures: tuple[type[Exception], ...]) -> None:
        self._session = session
        self._failures = failures
        self.inputs: tuple[str, ...] = tuple(value.name for value in session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(value.name for value in session.get_outputs())

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        try:
            values = self._session.run(list(outputs), dict(inputs))
        except self._failures as error:
            raise ArtifactError(f"the graph failed in ONNX Runtime ({_first_line(error)})") from error
        return dict(zip(outputs, (np.asarray(value) for value in values), strict=True))


def _onnxruntime() -> Any:
    # wheels since 1.29 write device ids into the user's cache unless this stands before the import
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        module = importlib.import_module("onnxruntime")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
            raise RuntimeUnavailable(str(explain(_installed(), importable=False))) from error
        raise RuntimeUnavailable(f"ONNX Runtime is broken ({error}): {REPAIR}") from error
    # of two doubled wheels, uninstalling one leaves a folder that Python imports as an empty package
    missing = [name for name in NEEDED if not hasattr(module, name)]
    if missing:
        raise RuntimeUnavailable(f"ONNX Runtime is half removed (its module lacks {missing[0]}): {REPAIR}")
    return module


def _failures() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; its classes have no common base."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NotImplemented", "EPFail")
    return (RuntimeError, ValueError, *(getattr(state, name) for name in (*names, "RuntimeException")))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _installed() -> list[str]:
    return [name for name in DISTRIBUTIONS if _is_installed(name)]


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
