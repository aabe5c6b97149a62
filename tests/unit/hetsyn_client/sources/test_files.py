"""Files to stream, cut into chunks."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from hetsyn_client.client import StreamingClient
from hetsyn_client.errors import InputError, NotFound
from hetsyn_client.sources.files import step_chunks
from service.wire.chunk import SpikeChunk, ValuesChunk
from service.wire.decode import decode_raw
from tests.support.data.hdf5 import write_h5
from tests.support.data.signals import sound
from tests.support.data.wav import wav

VALUES = np.random.default_rng(0).normal(size=(25, 3)).astype(np.float32)
SPIKES = (np.random.default_rng(1).random((25, 3)) < 0.3).astype(np.uint8)
SPIKES[-1, 0] = 1  # a file without a length ends with its last spike
STEP_S = 0.01


def chunks(path: Path, *, takes_values: bool, chunk_s: float = 0.1) -> list[Any]:
    """The chunks, as a server decodes them."""
    parts = list(step_chunks(path, chunk_s, STEP_S, takes_values=takes_values))
    assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].until_s == pytest.approx(0.25)
    return [decode_raw(part.body.content_type, [], part.body.content).chunk for part in parts]


def values_of(path: Path) -> Any:
    parts = chunks(path, takes_values=True)
    assert all(isinstance(part, ValuesChunk) for part in parts)
    assert [part.steps for part in parts] == [10, 10, 5]
    return np.concatenate([part.values for part in parts])


def spikes_of(path: Path, *, takes_values: bool = False) -> Any:
    parts = chunks(path, takes_values=takes_values)
    assert all(isinstance(part, SpikeChunk) for part in parts)
    assert [part.steps for part in parts] == [10, 10, 5]
    matrix = np.zeros((25, 3), np.uint8)
    for index, part in enumerate(parts):
        matrix[10 * index + part.step, part.unit] = 1
    return matrix


def test_values_of_every_kind_of_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    np.savez(tmp_path / "b.npz", values=VALUES)
    np.savetxt(tmp_path / "c.csv", VALUES, delimiter=",")
    np.savetxt(tmp_path / "d.CSV", VALUES, delimiter=",", header="x,y,z", comments="")
    np.savetxt(tmp_path / "e.csv", VALUES, delimiter=",", header="\ufeff1,y,z", comments="", encoding="utf-8")
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(values_of(path), VALUES)


def test_spikes_of_every_kind_of_file(tmp_path: Path) -> None:
    step, unit = SPIKES.nonzero()
    seconds = (step + np.random.default_rng(2).random(len(step))) * STEP_S
    np.save(tmp_path / "a.npy", SPIKES)
    np.save(tmp_path / "b.npy", SPIKES.astype(bool))
    np.savetxt(tmp_path / "c.csv", SPIKES, delimiter=",")
    np.savez(tmp_path / "d.npz", spikes=SPIKES)
    np.savez(tmp_path / "e.npz", times=step, units=unit, steps=25)
    np.savez(tmp_path / "f.npz", times=seconds, units=unit, steps=25)
    np.savez(tmp_path / "g.npz", times=step * STEP_S, units=unit, steps=25)  # on the edges of steps
    write_h5(tmp_path / "h.h5", [[*(step * STEP_S)]], [[*unit]])
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(spikes_of(path), SPIKES)
    np.testing.assert_array_equal(values_of(tmp_path / "a.npy"), SPIKES)
    for name in "defg":  # what says that it has spikes is sent as spikes
        np.testing.assert_array_equal(spikes_of(tmp_path / f"{name}.npz", takes_values=True), SPIKES)


ENDLESS = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000)}"


def headed(header: str) -> bytes:
    """A .npy file of nothing but a header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def flipped(spikes: NDArray[np.uint8]) -> bytes:
    """A compressed .npz file with a damaged array."""
    file = io.BytesIO()
    np.savez_compressed(file, spikes=spikes)
    content = bytearray(file.getvalue())
    content[80] ^= 255
    content[90] ^= 255
    return bytes(content)


def saved(**arrays: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("name", "write", "sentence"),
    [
        ("a.npy", lambda path: np.save(path, VALUES), r"step 0, channel 0 is .*: spikes are 0 or 1"),
        ("a.npy", lambda path: np.save(path, VALUES[None]), r"float32 \[1, 25, 3\]: give one stream, numbers"),
        ("a.npy", lambda path: np.save(path, SPIKES[:0]), "has no steps"),
        ("a.npy", lambda path: path.write_bytes(b"no"), "cannot be read as npy"),
        ("a.npz", lambda path: path.write_bytes(b"PK no"), "cannot be read as npz"),
        ("a.npz", saved(x=VALUES, labels=1), r"has x, labels: save values, or spikes, \[steps, channels\], or times"),
        ("a.npz", saved(spikes=2 * SPIKES), "is 2: spikes are 0 or 1"),
        ("a.npz", saved(times=[1, 2], units=[1]), "2 times and 1 units"),
        (
            "a.npz",
            saved(times=[1, 2], units=[1, 1], steps=2),
            "as steps it is in step 2, read as seconds in step 200, .* the stream has 2 steps",
        ),
        ("a.npz", saved(times=[[1]], units=[1]), r"times and units, int64 \[1, 1\] and int64 \[1\], are not numbers"),
        ("a.npz", saved(times=[1], units=["a"]), r"times and units, int64 \[1\] and <U1 \[1\], are not numbers"),
        ("a.npz", saved(times=[np.nan], units=[1]), "a time is not finite"),
        ("a.npz", saved(times=[np.inf], units=[1]), "a time is not finite"),
        ("a.npz", saved(times=[-1], units=[1]), "a time is not finite, or below 0"),
        ("a.npz", saved(times=[1], units=[1], steps="two"), "steps is not a count"),
        ("a.npz", saved(times=[1], units=[1], steps=10.7), "steps is not a count"),
        ("a.npz", saved(times=[1], units=[1], steps=np.inf), "steps is not a count"),
        ("a.npz", saved(times=[], units=[], steps=-2), "steps is -2"),
        ("a.npz", lambda path: path.write_bytes(b"PK\x03\x04 no"), "cannot be read as npz"),
        ("a.npz", lambda path: path.write_bytes(flipped(SPIKES)), "cannot be read as npz"),
        ("a.npy", lambda path: path.write_bytes(headed("{'descr': '<f8', 'shape': (((((")), "cannot be read as npy"),
        ("a.npy", lambda path: path.write_bytes(headed(ENDLESS)), "cannot be read as npy"),
        (
            "a.csv",
            lambda path: path.write_text("series,x\nwalk,1\n"),
            "'walk'.*: give one stream, .* one column",
        ),
        ("a.csv", lambda path: path.write_text("x;y\n1;2\n"), "'1;2'.*, with commas between the columns"),
        (
            "a.h5",
            lambda path: path.write_bytes(b"no"),
            "a.h5: cannot be read .*: give a whole HDF5 file in the form of SHD",
        ),
        (
            "a.h5",
            lambda path: h5py.File(path, "w").close(),
            "a.h5: cannot be read .* in the form of SHD, with spikes/times",
        ),
        ("a.h5", lambda path: write_h5(path, [[0], [1]], [[0], [1]]), "has 2 examples, and a stream is one"),
        ("a.h5", lambda path: write_h5(path, [[0, 1]], [[0]]), "2 times and 1 units"),
        ("a.npy", lambda path: path.mkdir(), "a.npy: cannot be read .*: name a file that you may read"),
        *((name, lambda _: None, f"{name}: cannot be read .*: name a file") for name in ("a.npz", "a.csv", "a.h5")),
        ("a.csv", lambda path: path.write_text("1,2\n1\n"), "from 2 to 1 at row 2: give one stream"),
        ("a.csv", lambda path: path.write_text("1,2\n1,\n"), "at row 1, column 2: give one stream"),
        ("a.csv", lambda path: path.write_text(""), "a.csv: has no steps"),
        ("a.csv", lambda path: path.write_text("x,y\n"), "a.csv: has no steps"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, name: str, write: Callable[[Path], object], sentence: str) -> None:
    write(tmp_path / name)
    with pytest.raises(InputError, match=sentence):
        list(step_chunks(tmp_path / name, 0.1, STEP_S, takes_values=False))


def test_no_part_of_a_file_with_a_wrong_value_is_sent(tmp_path: Path) -> None:
    values = VALUES.astype(np.float64)
    values[23, 1] = 1e39
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InputError, match=r"a\.npy: values\[23\]\[1\] is 1e\+39: send finite numbers"):
        next(step_chunks(tmp_path / "a.npy", 0.1, STEP_S, takes_values=True))


class DescribedServer:
    """Describes a model, and answers a chunk with its query."""

    def __init__(self, inputs: list[str], default: str | None = "digits") -> None:
        self._models = {"/models": {"default_model": default, "models": [{"name": "digits"}, {"name": "words"}]}}
        self._described = {"name": "digits", "inputs": inputs, "input": {"step_s": STEP_S}}
        self.chunks: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=self._models.get(request.url.path, self._described))
        self.chunks.append(request)
        return httpx.Response(200, json=dict(request.url.params))


def encoded(samples: NDArray[np.int16], container: str = "FLAC") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, format=container)
    return file.getvalue()


def streaming(server: DescribedServer) -> StreamingClient:
    return StreamingClient("http://server", network=httpx.MockTransport(server))


def test_a_file_is_streamed_as_the_model_takes_it(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", SPIKES)
    for inputs, media_type in (
        (["values", "events", "dense"], "application/vnd.hetsyn.values;channels=3"),
        (["audio", "events", "dense"], "application/vnd.hetsyn.events"),
    ):
        server = DescribedServer(inputs)
        replies = list(streaming(server).stream_file(tmp_path / "a.npy"))
        assert [(reply["model"], str(reply["seq"]), str(reply["end"])) for reply in replies] == [
            ("digits", "0", "false"), ("digits", "1", "false"), ("digits", "2", "true"),
        ]  # fmt: skip
        assert {request.headers["Content-Type"] for request in server.chunks} == {media_type}


def test_a_recording_needs_no_description(tmp_path: Path) -> None:
    (tmp_path / "a.WAV").write_bytes(wav(sound(900).tobytes()))
    server = DescribedServer([], default=None)
    assert [str(reply["end"]) for reply in streaming(server).stream_file(tmp_path / "a.WAV")] == ["false", "true"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"a\.flac: cannot be read \(Format not recognised\): give a whole recording \(WAV, FLAC"),
        (encoded(sound(9000))[:-900], r"a\.flac: cannot be read \(flac decoder lost sync\): give a whole recording"),
        (encoded(sound(0), "AIFF"), r"a\.flac: has no sound: give a whole recording"),
    ],
)
def test_a_recording_that_cannot_be_read_gets_a_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        list(streaming(DescribedServer([])).stream_file(tmp_path / "a.flac"))


@pytest.mark.parametrize("name", ["none.wav", "none.flac", "none.npy", "none.h5"])
def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: cannot be read"):
        list(streaming(DescribedServer([])).stream_file(tmp_path / name))


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000", "http://", "http://host:port", "http://[::1", "ftp://host", "http://..", "http://a\0b"],
)
def test_what_is_no_address_is_an_input_error(url: str) -> None:
    with pytest.raises(InputError, match=r"is not the address of a server: write http://HOST:PORT"):
        StreamingClient(url)


def test_a_server_without_default_model_wants_a_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", SPIKES)
    with pytest.raises(NotFound, match="no default model: name one of digits, words"):
        list(streaming(DescribedServer([], default=None)).stream_file(tmp_path / "a.npy"))
