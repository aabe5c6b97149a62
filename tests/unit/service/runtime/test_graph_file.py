"""A graph refers to no file, wherever in it a tensor may be."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ArtifactError
from service.runtime import graph_file
from service.runtime import onnx as runtime
from service.runtime.graph_file import DATA_LOCATION, EXTERNAL_DATA, MESSAGES, check_graph_file
from service.runtime.onnx import load_graph
from tests.support.artifacts.graphs_with_files import PLACES, graph_with_file
from tests.support.paths import MODELS


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the working directory of the server."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "carry.keys").write_bytes(b"0123456789ABCDEF, and more")
    return tmp_path / "carry.keys"


@pytest.mark.parametrize("place", PLACES)
def test_a_graph_with_a_tensor_in_a_file_is_refused(secret: Path, place: str) -> None:
    for location in (secret.name, str(secret), f"../{secret.parent.name}/{secret.name}", "*/_ORT_MEM_ADDR_/*"):
        with pytest.raises(ArtifactError, match=r"in another file.*export the model again with all tensors"):
            load_graph(graph_with_file(place, location))


@pytest.mark.parametrize("place", PLACES)
def test_onnx_runtime_itself_finds_no_file(secret: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Its own option, for a place that ``check_graph_file`` would not know."""
    monkeypatch.setattr(runtime, "check_graph_file", lambda _: None)
    with pytest.raises(ArtifactError, match="cannot load the graph"):
        load_graph(graph_with_file(place, secret.name))


def test_every_message_that_may_contain_a_tensor_is_walked() -> None:
    """As the onnx package describes its format."""
    messages = onnx.onnx_ml_pb2.DESCRIPTOR.message_types_by_name
    nested = {
        name: {field.number: field.message_type.name for field in message.fields if field.message_type is not None}
        for name, message in messages.items()
    }
    reach: set[str] = set()
    while (wider := {"TensorProto", *(name for name in nested if reach & set(nested[name].values()))}) != reach:
        reach = wider
    assert {
        name: {number: kind for number, kind in nested[name].items() if kind in reach} for name in reach
    } == MESSAGES
    tensor = messages["TensorProto"].fields_by_name
    assert (tensor["external_data"].number, tensor["data_location"].number) == (EXTERNAL_DATA, DATA_LOCATION)


@pytest.mark.parametrize("path", sorted(MODELS.glob("*/*/*.onnx")), ids=lambda path: "/".join(path.parts[-3:]))
def test_the_graphs_of_the_exporter_are_taken(path: Path) -> None:
    check_graph_file(path.read_bytes())


def test_a_tensor_that_says_that_it_is_in_the_graph_is_taken() -> None:
    tensor = onnx.TensorProto(name="x", data_location=onnx.TensorProto.DEFAULT)
    graph = onnx.GraphProto(initializer=[tensor])
    check_graph_file(onnx.ModelProto(graph=graph).SerializeToString())


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a",
        b"\x3a\x05a",
        b"\x08",
        b"\x08" + b"\xff" * 11,
        b"\x0d\x00",
        b"\x0b\x0c",
        b"\x00\x00",
        b"\x80" * 9 + b"\x10",
    ],
    ids=["no length", "cut off", "no value", "no end", "fixed", "group", "field 0", "field 2^60"],
)
def test_what_is_not_framed_as_onnx_is_refused(content: bytes) -> None:
    with pytest.raises(ArtifactError, match="not an ONNX file, or damaged: export the model again"):
        check_graph_file(content)


def test_a_graph_of_very_many_parts_is_refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_file, "MAX_FIELDS", 100)
    check_graph_file(b"\x08\x01" * 100)
    for content in (b"\x08\x01" * 101, b"\x3a\x00" * 101):
        with pytest.raises(ArtifactError, match="more than 100 parts"):
            check_graph_file(content)


@given(
    st.binary()
    | st.lists(st.sampled_from([b"\x3a", b"\x2a", b"\x0a", b"\x70\x01", b"\x6a\x00", b"\xff"])).map(b"".join)
)
def test_any_bytes_are_taken_or_refused(content: bytes) -> None:
    with suppress(ArtifactError):
        check_graph_file(content)
