"""Runs graphs: the interface to ONNX Runtime, and the only file that imports it.

A graph has no memory: state goes in and comes out with every call. If HetSyn's operators are built, every session
registers them. With ``use_operators=False``, or HETSYN_OPERATORS=off in the environment, a graph runs in the plain ONNX
that it contains. A batch that needs no more than states and answers runs in the operators' library alone. All
that needs ONNX Runtime raises ``RuntimeUnavailable`` if it is not installed.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.extras import install_command
from service.contract.graph_io import (
    EVENT_ROW,
    EVENT_UNIT,
    NEXT_STATE,
    NEXT_STEP,
    PROBABILITIES,
    SCORES,
    STATE,
    STEP,
    STEPS,
)
from service.errors import ArtifactError, RuntimeUnavailable
from service.runtime.graph_file import check_graph_file
from service.runtime.operators import (
    BUILD,
    MODE,
    OperatorStatus,
    denormals,
    is_of_this_version,
    kernel,
    library,
    mode,
)

Array = NDArray[Any]

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
INSTALL = f"{install_command('cpu')} ([gpu] in place of [cpu] on a machine with an NVIDIA GPU)"
REPAIR = f"pip uninstall -y onnxruntime onnxruntime-gpu, then {INSTALL}"
CUDA_REPAIR = f"see whether nvidia-smi finds the GPU and whether its driver takes CUDA 13, and {install_command('gpu')}"
NEEDED = ("InferenceSession", "SessionOptions", "ExecutionMode")
LOG_SEVERITY = 4  # ONNX Runtime logs what ends the process; errors are raised
# ``check_graph_file`` refuses what ONNX Runtime would read by these two: files beside a graph, and its own file format
CLOSED = {"session.model_external_initializers_file_folder_path": os.devnull, "session.load_model_format": "ONNX"}
CUDA = "CUDAExecutionProvider"
IN_PLAIN_ONNX = "in plain ONNX alone"  # the operator's words for a network that it does not accelerate
OTHER_VERSION = "another version of hetsyn has built it"
# a graph of one Identity, float32 [1]: its session tells which provider ONNX Runtime uses
PROBE = (
    b'\x08\n:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x14"
)
DIRECT_INPUTS = (EVENT_ROW, EVENT_UNIT, STEPS, STEP, STATE)
DIRECT_OUTPUTS = (NEXT_STATE, NEXT_STEP, SCORES, PROBABILITIES)
_PLAIN_INPUTS, _PLAIN_OUTPUTS = {*DIRECT_INPUTS}, {*DIRECT_OUTPUTS}
_NO_NAMES = [None] * (len(DIRECT_INPUTS) + len(DIRECT_OUTPUTS))
# of the capsule that ``__array_struct__`` gives: ten times as fast as ``__array_interface__``
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_log = logging.getLogger("hetsyn.runtime")


class Graph(Protocol):
    """A loaded graph. ``run`` may be called from several threads; the caller may keep the arrays that it returns."""

    @property
    def inputs(self) -> tuple[str, ...]: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph, and return the outputs by name.

        Args:
            inputs: by name; shapes as in ``service.contract.graph_io``.
            outputs: names of the outputs to return.

        Raises:
            ArtifactError: the graph does not take these inputs, or fails on them.
        """
        ...

    def stop(self) -> None:
        """End the current run, on any thread, and refuse later ones."""
        ...


GraphLoader = Callable[[bytes], Graph]


def explain(installed: Sequence[str], importable: bool) -> str | None:
    """Describe the fault of an installation of ONNX Runtime, with the command that repairs it; None without a fault.

    Args:
        installed: the installed ones of ``DISTRIBUTIONS``.
        importable: Python finds the module ``onnxruntime``.
    """
    if len(installed) > 1:
        return f"{' and '.join(installed)} are both installed and overwrite each other: {REPAIR}"
    if installed and not importable:
        return f"{installed[0]} is installed, but its module is not there: {REPAIR}"
    if not importable:
        return f"ONNX Runtime is not installed: {INSTALL}"
    return None


def check_runtime() -> None:
    """Check that exactly one ONNX Runtime is installed, and that it can be imported.

    Raises:
        RuntimeUnavailable: it is not so, or HETSYN_OPERATORS=require and the operator cannot be used; the message has
            the command that repairs it.
    """
    problem = explain(_installed(), importable=True)
    if problem:
        raise RuntimeUnavailable(problem)
    _onnxruntime()
    if mode() == "require":
        status = operator_status()
        if status.problem:
            raise RuntimeUnavailable(f"{MODE}=require, and {status.problem}")


def operators_problem() -> str | None:
    """Say why the built operators cannot be used; None if they can, or if they were not built."""
    built = library()
    return None if built is None else _register(_onnxruntime().SessionOptions(), built)


def operator_status() -> OperatorStatus:
    """Find out whether the operator runs the networks on the CPU, in which version, or why not.

    Raises:
        RuntimeUnavailable: HETSYN_OPERATORS says something unknown.
    """
    if mode() == "off":
        return OperatorStatus(False, None, f"the operator is switched off by {MODE}=off")
    built = library()
    if built is None:
        return OperatorStatus(False, None, f"the operator is not built: {BUILD}")
    try:
        name = kernel(built)
    except (OSError, AttributeError) as error:
        return OperatorStatus(True, None, f"{built.name} cannot be loaded ({error}): {BUILD}")
    problem = operators_problem()
    if problem:
        return OperatorStatus(True, None, f"{built.name} cannot be used ({problem}): {BUILD}")
    return OperatorStatus(True, name, None)


def providers() -> list[str]:
    """List the execution providers that this ONNX Runtime was built with; the machine may not support them."""
    return list(_onnxruntime().get_available_providers())


def cuda_problem() -> str | None:
    """Say why ONNX Runtime cannot use a GPU, and what to do; None if it can.

    ONNX Runtime lists CUDA on machines without a GPU, and returns a session on the CPU when CUDA does not load. So this
    makes a session and asks it which provider it has.
    """
    ort = _onnxruntime()
    if CUDA not in ort.get_available_providers():
        return f"this ONNX Runtime is the CPU's: pip uninstall -y onnxruntime, then {install_command('gpu')}"
    try:
        session = _cuda_session(ort, PROBE, ort.SessionOptions())
    except _failures() as error:
        return f"ONNX Runtime cannot use the GPU ({_first_line(error)}): {CUDA_REPAIR}"
    if session.get_providers()[0] != CUDA:
        return f"ONNX Runtime {ort.__version__} falls back to the CPU: {CUDA_REPAIR}"
    return None


def load_cuda_graph(content: bytes) -> Graph:
    """Load a graph from the bytes of an ONNX file, in plain ONNX on the first visible GPU.

    Raises:
        RuntimeUnavailable: the GPU cannot be used.
        ArtifactError: ONNX Runtime cannot load the graph, or the graph refers to another file.
    """
    ort = _onnxruntime()
    check_graph_file(content)
    failures = _failures()
    try:
        session = _cuda_session(ort, content, _options(ort, threads=1))
    except failures as error:
        raise ArtifactError(f"ONNX Runtime {ort.__version__} cannot load the graph ({_first_line(error)})") from error
    if session.get_providers()[0] != CUDA:
        raise RuntimeUnavailable(f"ONNX Runtime {ort.__version__} falls back to the CPU: {CUDA_REPAIR}")
    return OrtGraph(session, ort.RunOptions(), failures)


def _cuda_session(ort: Any, content: bytes, options: Any) -> Any:
    ort.preload_dlls()  # CUDA and cuDNN of the wheels, before the first session looks for them
    full_precision = {"use_tf32": "0"}  # TF32 keeps 10 bits of a factor, and the sums must stay exact
    return ort.InferenceSession(content, options, providers=[(CUDA, full_precision)], enable_fallback=0)


def load_graph(content: bytes, *, threads: int = 1, use_operators: bool = True, operators: Path | None = None) -> Graph:
    """Load a graph from the bytes of an ONNX file, on the CPU.

    It takes bytes, not a path, so that the verified bytes are loaded.

    Args:
        use_operators: run the operators, if they are built, in place of plain ONNX.
        operators: another build of the operators, which must take the graph.

    Raises:
        ArtifactError: ONNX Runtime cannot load it, it refers to another file, or HETSYN_OPERATORS=require and our
            operators fail on it. Networks that they do not accelerate run in plain ONNX.
    """
    ort = _onnxruntime()
    check_graph_file(content)
    failures = _failures()
    built = operators or (library() if use_operators else None)
    if built is not None and operators is None and not is_of_this_version(built):
        if mode() == "require":
            raise RuntimeUnavailable(f"{MODE}=require, and {built.name} cannot be used ({OTHER_VERSION}): {BUILD}")
        built = None  # ``operator_status`` says why
    if built is not None:
        try:
            session = _session(ort, content, threads, built)
            direct = _taken_network(built) if threads == 1 else None
            return OrtGraph(session, ort.RunOptions(), failures, direct)
        except failures as error:
            if IN_PLAIN_ONNX not in str(error):
                if operators is not None or mode() == "require":
                    raise ArtifactError(f"{built} cannot run the graph ({_first_line(error)})") from error
                _log.warning("%s is not used, plain ONNX runs instead: %s", built, _first_line(error))
    try:
        return OrtGraph(_session(ort, content, threads, None), ort.RunOptions(), failures)
    except failures as error:
        raise ArtifactError(f"ONNX Runtime {ort.__version__} cannot load the graph ({_first_line(error)})") from error


def _session(ort: Any, content: bytes, threads: int, operators: Path | None) -> Any:
    options = _options(ort, threads)
    if operators is not None:
        options.register_custom_ops_library(str(operators))
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = LOG_SEVERITY
    for key, value in CLOSED.items():
        options.add_session_config_entry(key, value)
    return options


def _register(options: Any, built: Path) -> str | None:
    """Register the operators in a session's options. Returns the error if that fails, else None."""
    if not is_of_this_version(built):
        return OTHER_VERSION
    try:
        options.register_custom_ops_library(str(built))
    except _failures() as error:
        return _first_line(error)
    return None


class Sound(dict[str, Array]):
    """Outputs with all states and probabilities in range."""


class DirectNetwork:
    """A network that a session of ONNX Runtime has read, run by the operator's library alone.

    A session makes all outputs of its graph, and NumPy then reads all new states again to check them. For a batch of
    16 chunks, this way takes a fifth less of the engine's time, for a single chunk a quarter.

    Args:
        network: its network, which lives as long as the session.
    """

    def __init__(self, library: ctypes.CDLL, network: int) -> None:
        self._network = network
        self._words: int = _function(library.hetsyn_words, ctypes.c_int64, 1)(network)
        self._outputs: int = _function(library.hetsyn_outputs, ctypes.c_int64, 1)(network)
        self._run = _function(library.hetsyn_run, ctypes.c_int, 10)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array] | None:
        """Run a batch, as ``Graph.run``.

        Returns:
            The outputs by name, as ``Sound`` if they are; None if ONNX Runtime has to run it, or to say what is wrong.
        """
        if not (_PLAIN_OUTPUTS.issuperset(outputs) and inputs.keys() == _PLAIN_INPUTS):
            return None
        streams = len(inputs[STEPS])
        after, next_step = np.empty((streams, self._words), np.float32), np.empty(streams, np.int64)
        scores, probabilities = np.empty((2, streams, self._outputs), np.float32)
        made = after, next_step, scores, probabilities
        described = [array.__array_struct__ for array in (*map(inputs.__getitem__, DIRECT_INPUTS), *made)]
        done = self._run(self._network, *map(_pointer, described, _NO_NAMES))
        if done < 0:
            return None
        by_name: dict[str, Array] = dict(zip(DIRECT_OUTPUTS, made, strict=True))
        found: dict[str, Array] = Sound() if done else {}
        for name in outputs:
            found[name] = by_name[name]
        return found


class OrtGraph:
    """A session of ONNX Runtime.

    Args:
        run_options: options of every run; ONNX Runtime reads their ``terminate`` before each node, in loops too.
        failures: the exceptions that ONNX Runtime raises.
        direct: the session's network, which runs without ONNX Runtime what it can.
    """

    def __init__(
        self,
        session: Any,
        run_options: Any,
        failures: tuple[type[Exception], ...],
        direct: DirectNetwork | None = None,
    ) -> None:
        self._session = session
        self._denormals = denormals()  # the operators flush them, plain ONNX does not
        self._run_options = run_options
        self._direct = direct
        self._failures = failures
        self.inputs: tuple[str, ...] = tuple(value.name for value in session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(value.name for value in session.get_outputs())

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        if self._direct is not None and not self._run_options.terminate:
            found = self._direct.run(inputs, outputs)
            if found is not None:
                return found
        denormals = self._denormals
        before = 0 if denormals is None else denormals.flush()
        try:
            values = self._session.run(outputs, inputs if isinstance(inputs, dict) else dict(inputs), self._run_options)
        except self._failures as error:
            raise ArtifactError(f"the graph failed in ONNX Runtime ({_first_line(error)})") from error
        finally:
            if denormals is not None:
                denormals.restore(before)
        return dict(zip(outputs, values, strict=True))

    def stop(self) -> None:
        self._run_options.terminate = True


def _taken_network(library: Path) -> DirectNetwork | None:
    """Take the network of the session that this thread has made last; None if its graph is another or has more."""
    loaded = ctypes.CDLL(str(library))
    if not hasattr(loaded, "hetsyn_run"):  # an earlier build
        return None
    network = _function(loaded.hetsyn_take_network, ctypes.c_void_p, 0)()
    return None if network is None else DirectNetwork(loaded, network)


def _function(function: Any, result: Any, arguments: int) -> Any:
    function.restype, function.argtypes = result, [ctypes.c_void_p] * arguments
    return function


def _onnxruntime() -> Any:
    # wheels since 1.29 write device ids into the user's cache unless this is set before the import
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        module = importlib.import_module("onnxruntime")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
            raise RuntimeUnavailable(str(explain(_installed(), importable=False))) from error
        raise RuntimeUnavailable(f"ONNX Runtime is broken ({error}): {REPAIR}") from error
    # both wheels install this module: uninstalling one leaves a folder that Python imports as an empty package
    missing = [name for name in NEEDED if not hasattr(module, name)]
    if missing:
        raise RuntimeUnavailable(f"ONNX Runtime is incomplete (its module has no {missing[0]}): {REPAIR}")
    return module


def _failures() -> tuple[type[Exception], ...]:
    """Return the exceptions that ONNX Runtime raises; they have no common base class, and they differ by version."""
    state = vars(importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")).values()
    own = [value for value in state if isinstance(value, type) and issubclass(value, Exception)]
    return (RuntimeError, ValueError, MemoryError, *own)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:500]


def _installed() -> list[str]:
    return [name for name in DISTRIBUTIONS if _is_installed(name)]


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
