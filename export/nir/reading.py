"""Reads a NIR file as a :class:`Graph`: flattens nested graphs, and checks every node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from export.nir import NirError, Unsupported
from export.nir.graph import IDENTITY, INPUT, OUTPUT, WEIGHTS, Graph, Node
from hetsyn_client.extras import install_command

# each type's parameters that are arrays, and its other parameters
PARAMETERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Input": ((), ("input_type",)),
    "Output": ((), ("output_type",)),
    "Linear": (("weight",), ()),
    "Affine": (("weight", "bias"), ()),
    "Scale": (("scale",), ()),
    "I": (("r",), ()),
    "LI": (("tau", "r", "v_leak"), ()),
    "IF": (("r", "v_threshold", "v_reset"), ()),
    "LIF": (("tau", "r", "v_leak", "v_threshold", "v_reset"), ()),
    "CubaLI": (("tau_syn", "tau_mem", "r", "v_leak", "w_in"), ()),
    "CubaLIF": (("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"), ()),
    "Threshold": (("threshold",), ()),
    "Delay": (("delay",), ()),
    "Flatten": ((), ("start_dim", "end_dim")),
    "Conv1d": (("weight", "bias"), ("stride", "padding", "dilation", "groups")),
    "Conv2d": (("weight", "bias"), ("stride", "padding", "dilation", "groups")),
    "SumPool2d": ((), ("kernel_size", "stride", "padding")),
    "AvgPool2d": ((), ("kernel_size", "stride", "padding")),
}
MAX_DEPTH = 16  # limit of nested graphs


def nir_library() -> ModuleType:
    """Import the library ``nir``.

    Raises:
        NirError: it is not installed.
    """
    try:
        import nir
    except ModuleNotFoundError as error:
        raise NirError(f"NIR files need {error.name}: {install_command('nir')}") from error
    return nir  # type: ignore[no-any-return]


def read_graph(path: Path) -> Graph:
    """Read a NIR file.

    Raises:
        NirError: not a NIR file, or a node is unsupported or wrong; the message names it.
    """
    nir = nir_library()
    if not path.is_file():
        raise NirError(f"{path}: no such file: name a NIR file, as nir.write() writes it")
    try:
        _refuse_unknown(path)
        graph = nir.read(path, type_check=False)
    except OSError as error:
        raise NirError(f"{path}: not a NIR file ({error}): write it with nir.write()") from error
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        detail = f"{type(error).__name__}: {error}".split("\n")[0]
        raise NirError(f"{path}: nir cannot read it ({detail:.200}): write it with a current nir") from error
    return from_nir(graph)


def from_nir(graph: Any) -> Graph:
    """Convert a ``nir.NIRGraph``.

    Raises:
        NirError: a node is unsupported or wrong; the message names it.
    """
    if type(graph).__name__ != "NIRGraph":
        raise NirError(_no_graph(type(graph).__name__))
    nodes: dict[str, Node] = {}
    edges: list[tuple[str, str]] = []
    notes: list[str] = []
    _lay_flat("", graph, nodes, edges, notes, MAX_DEPTH)
    for kind in (INPUT, OUTPUT):
        found = sum(node.kind == kind for node in nodes.values())
        if found != 1:
            raise NirError(f"the graph has {found} {kind} nodes, not one: give it one {kind} of all values")
    for edge in edges:
        if nodes[edge[0]].kind == OUTPUT or nodes[edge[1]].kind == INPUT:
            raise NirError(
                f"the edge from {edge[0]!r} to {edge[1]!r} leads out of the Output or into the Input: remove it"
            )
        if edges.count(edge) > 1:
            raise NirError(f"the edge from {edge[0]!r} to {edge[1]!r} stands there twice: keep one of them")
    return Graph(nodes, tuple(edges), dict(graph.metadata or {}), tuple(notes))


def _lay_flat(
    prefix: str,
    graph: Any,
    nodes: dict[str, Node],
    edges: list[tuple[str, str]],
    notes: list[str],
    depth: int,
) -> None:
    """Add a graph's nodes and edges to ``nodes`` and ``edges``, under names that begin with ``prefix``."""
    if not depth:
        raise NirError(f"graph {prefix[:-1]!r} lies in {MAX_DEPTH} others: lay the graphs flat")
    entries: dict[str, str] = {}  # Input of each nested graph
    exits: dict[str, str] = {}  # Output of each nested graph
    for key, node in graph.nodes.items():
        if type(node).__name__ == "NIRGraph":
            _lay_flat(f"{prefix}{key}.", node, nodes, edges, notes, depth - 1)
            entries[key], exits[key] = (_only(prefix, key, node, kind) for kind in (INPUT, OUTPUT))
        else:
            read = _node(prefix + key, node)
            if read.name in nodes:
                raise NirError(f"two nodes are named {read.name!r}, with the graph around one: rename one of them")
            nodes[read.name] = replace(read, kind=IDENTITY) if prefix and read.kind in (INPUT, OUTPUT) else read
    here = [(str(source), str(target)) for source, target in graph.edges]
    for end in (end for edge in here for end in edge):
        if end not in graph.nodes:
            raise NirError(f"an edge names node {prefix + end!r}, which the graph does not have: add it")
    if prefix:
        here = _as_recurrence(prefix, graph, here, notes)
    edges += [(prefix + exits.get(source, source), prefix + entries.get(target, target)) for source, target in here]


def _only(prefix: str, key: str, graph: Any, kind: str) -> str:
    found = [inner for inner, node in graph.nodes.items() if type(node).__name__ == kind]
    if len(found) != 1:
        raise NirError(f"graph {prefix + key!r} has {len(found)} {kind} nodes, not one: give it one of each")
    return f"{key}.{found[0]}"


def _as_recurrence(prefix: str, graph: Any, edges: list[tuple[str, str]], notes: list[str]) -> list[tuple[str, str]]:
    """Correct the edges of a recurrent layer's four nodes.

    Several libraries wire the Input to the weights of the recurrence instead of to the neurons, and none looks at the
    edges when it reads the graph again. The four nodes and their loop identify the layer.
    """
    kinds = {type(node).__name__: name for name, node in graph.nodes.items()}
    weights = [kinds[kind] for kind in WEIGHTS if kind in kinds]
    neurons = [kinds[kind] for kind in ("IF", "LIF", "CubaLIF") if kind in kinds]
    if len(graph.nodes) != 4 or INPUT not in kinds or OUTPUT not in kinds or len(weights) != 1 or len(neurons) != 1:
        return edges
    (neuron,), (weight,), source = neurons, weights, kinds[INPUT]
    is_loop = (neuron, weight) in edges and (weight, neuron) in edges
    if not is_loop or (source, weight) not in edges or (source, neuron) in edges:
        return edges
    notes.append(
        f"graph {prefix[:-1]!r}: its Input leads to {weight!r}; read as a recurrent layer, it leads to {neuron!r}"
    )
    return [(source, neuron) if edge == (source, weight) else edge for edge in edges]


def _node(name: str, node: Any) -> Node:
    kind = type(node).__name__
    if kind not in PARAMETERS:
        raise Unsupported(_unsupported(name, kind))
    arrays, others = PARAMETERS[kind]
    values = {}
    for parameter in arrays:
        raw = getattr(node, parameter)
        raw = np.asarray(raw.detach() if hasattr(raw, "detach") else raw)
        if raw.dtype.kind not in "fiub":
            raise NirError(f"node {name!r}: its {parameter} is not an array of numbers: write it again")
        value = raw.astype(np.float64)
        if not np.isfinite(value).all():
            raise NirError(f"node {name!r}: its {parameter} has NaN or infinite values: train the network again")
        if not np.abs(value).max(initial=0.0) <= np.finfo(np.float32).max:
            raise NirError(f"node {name!r}: its {parameter} has values beyond float32: give smaller ones")
        values[parameter] = value
    _check_values(name, kind, values)
    options = {option: _plain(getattr(node, option)) for option in others}
    return Node(name, kind, values, options, dict(node.metadata or {}))


def _check_values(name: str, kind: str, values: Mapping[str, Any]) -> None:
    for parameter in ("tau", "tau_syn", "tau_mem"):
        if parameter in values and (values[parameter] <= 0).any():
            raise NirError(f"node {name!r}: its {parameter} is not above 0: give time constants in seconds")
    if kind == "Delay" and (values["delay"] < 0).any():
        raise NirError(f"node {name!r}: its delay is below 0: give delays in seconds")
    ndim = {"Linear": 2, "Affine": 2, "Conv1d": 3, "Conv2d": 4}.get(kind)
    if ndim is not None and values["weight"].ndim != ndim:
        raise NirError(f"node {name!r}: its weight has {values['weight'].ndim} dimensions, not {ndim}: reshape it")
    if "bias" in values and values["bias"].shape != values["weight"].shape[:1]:
        raise NirError(
            f"node {name!r}: its bias has shape {list(values['bias'].shape)} for {values['weight'].shape[0]} outputs: "
            "give one number an output"
        )


def _plain(value: Any) -> Any:
    """Convert shapes, strides and paddings to int, str or tuples of int."""
    if isinstance(value, dict):
        value = next(iter(value.values()), None)
    if isinstance(value, bytes):
        return value.decode()
    if value is None or isinstance(value, str):
        return value
    array = np.asarray(value)
    return tuple(int(item) for item in array) if array.ndim else int(array)


def _no_graph(kind: str) -> str:
    return f"a single {kind}, not a graph: put it between Input and Output"


def _unsupported(name: str, kind: str) -> str:
    return (
        f"node {name!r} is a {kind}, which is not supported: rewrite it with {', '.join(PARAMETERS)}, or export the "
        "network with export.export_step"
    )


def _refuse_unknown(path: Path) -> None:
    """Name a node of a type that ``nir`` does not know; it would only say that an assertion failed."""
    import h5py

    def walk(prefix: str, group: Any) -> None:
        for key, item in group.items():
            kind = item["type"][()]
            kind = kind.decode() if isinstance(kind, bytes) else str(kind)
            if kind == "NIRGraph":
                walk(f"{prefix}{key}.", item["nodes"])
            elif kind not in PARAMETERS:
                raise Unsupported(_unsupported(prefix + key, kind))

    with h5py.File(path, "r") as file:
        if "node" not in file:
            raise NirError(f"{path}: an HDF5 file without a NIR graph: write it with nir.write()")
        root = file["node"]
        if "nodes" in root:
            walk("", root["nodes"])
        elif "type" in root:
            raise NirError(_no_graph(bytes(root["type"][()]).decode()))
