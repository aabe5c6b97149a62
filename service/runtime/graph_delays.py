"""Checks the delays of a network graph before anything runs it: each within the registers that the network keeps.

Our operators check them too, because their loops believe them. Plain ONNX would take a delay below 0 from the end of a
table, and say of one that is too long only at the first chunk that an index is out of bounds.
"""

from __future__ import annotations

from collections.abc import Iterator

from service.errors import ArtifactError
from service.runtime.graph_weights import fields_of, read_tensors

MODEL_GRAPH, GRAPH_NODE = 7, 1  # fields of ModelProto and GraphProto
NODE_INPUT, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 5, 7  # of NodeProto
ATTRIBUTE_NAME, ATTRIBUTE_I = 1, 3  # of AttributeProto
DOMAIN = b"hetsyn"
MOST_DELAY = 240  # steps, hetsyn_model/spec/path.py
PATHS = {".delay_in": "input_delay", ".delay_rec": "recurrent_delay"}
"""The end of a constant's name, and the attribute that says the longest delay."""


def check_delays(content: bytes) -> None:
    """Check the delays of a graph.

    Args:
        content: of an ONNX file that ``check_graph_file`` has seen.

    Raises:
        ArtifactError: a delay is beyond the longest, or the longest beyond what a network may have.
    """
    if not any(name.encode() in content for name in (*PATHS, *PATHS.values())):
        return  # most graphs: nothing is parsed
    tensors = None
    for inputs, attributes in _operators(content):
        longest = {name: attributes.get(name, 0) for name in PATHS.values()}
        for name, steps in longest.items():
            if not 0 <= steps <= MOST_DELAY:
                raise ArtifactError(f"{name} is {steps}, not from 0 to {MOST_DELAY}: export the model again")
        for name in inputs:
            attribute = next((attribute for end, attribute in PATHS.items() if name.endswith(end)), None)
            if attribute is None:
                continue
            tensors = read_tensors(content) if tensors is None else tensors
            delays = tensors.get(name)
            if delays is None or delays.dtype.kind != "i":
                raise ArtifactError(f"{name} is no constant of whole steps: export the model again")
            for steps in (int(delays.min(initial=0)), int(delays.max(initial=0))):
                if not 0 <= steps <= longest[attribute]:
                    raise ArtifactError(
                        f"{name} has a delay of {steps} steps, not from 0 to {longest[attribute]}: "
                        "export the model again"
                    )


def _operators(content: bytes) -> Iterator[tuple[list[str], dict[str, int]]]:
    """Inputs and whole attributes of the nodes that are ours."""
    for number, graph in fields_of(content):
        for inner, node in fields_of(graph) if number == MODEL_GRAPH and isinstance(graph, bytes) else ():
            if inner != GRAPH_NODE or not isinstance(node, bytes):
                continue
            names, attributes, is_ours = list[str](), dict[str, int](), False
            for member, value in fields_of(node):
                if not isinstance(value, bytes):
                    continue
                if member == NODE_INPUT:
                    names.append(value.decode(errors="replace"))
                elif member == NODE_ATTRIBUTE:
                    name, whole = _attribute(value)
                    attributes[name] = whole
                elif member == NODE_DOMAIN:
                    is_ours = value == DOMAIN
            if is_ours:
                yield names, attributes


def _attribute(content: bytes) -> tuple[str, int]:
    """Name and whole value of an attribute; 0 for one of another kind."""
    name, whole = "", 0
    for member, value in fields_of(content):
        if member == ATTRIBUTE_NAME and isinstance(value, bytes):
            name = value.decode(errors="replace")
        elif member == ATTRIBUTE_I and isinstance(value, int):
            whole = value if value < 2**63 else value - 2**64
    return name, whole
