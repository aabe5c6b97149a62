"""Models whose files never end, take the memory or the time of the server, or read its other files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.long.hostile.case import Case, Figure, at_most, exactly
from tests.long.hostile.stage import AttackedServer, Stage
from tests.long.hostile.wire import Client
from tests.support.servers.server_process import ServerError

SECRET = b"SECRET-KEY-0123456789ABCDEF0123456789ABC"
MODEL = "delayed-match"
RELOAD_S = 30.0
LOAD_OPTION = "--set=load_timeout_s=20"  # a busy machine loads a good model in 8 to 10 s
SPARSE_BYTES = 3 << 30
Spoil = Callable[[Path], None]


def manifest_of(version: Path) -> dict[str, Any]:
    return dict(json.loads((version / "manifest.json").read_text()))


def write_manifest(version: Path, manifest: Mapping[str, Any]) -> None:
    (version / "manifest.json").write_text(json.dumps(manifest))


def copy_version(source: Path, target: Path) -> None:
    """Copy a version of a model under another number."""
    shutil.copytree(source, target)
    write_manifest(target, manifest_of(target) | {"version": target.name})


def network_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Find the network in a manifest; before format 6 it was one of several forms."""
    found: dict[str, Any] = manifest.get("network") or manifest["forms"]["bank"]
    return found


def replace_graph(version: Path, change: Callable[[Any], None]) -> None:
    """Change the graph of a bank, with the manifest's hash."""
    path = version / "bank.onnx"
    graph = onnx.load(path, load_external_data=False)
    change(graph)
    content = graph.SerializeToString()
    path.write_bytes(content)
    manifest = manifest_of(version)
    manifest["files"]["bank.onnx"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_manifest(version, manifest)


def _constants(graph: Any, **values: NDArray[Any]) -> None:
    graph.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())


def read_file(name: str) -> Callable[[Any], None]:
    """A graph that adds the bytes of a file to its readout."""

    def change(graph: Any) -> None:
        length = len(SECRET)
        tensor = TensorProto(name="leak", data_type=TensorProto.UINT8, dims=[length, 1])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", name), ("offset", "0"), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
        graph.graph.initializer.append(tensor)
        for node in graph.graph.node:
            for names in (node.input, node.output):
                for index, each in enumerate(names):
                    if each == "readout":
                        names[index] = "readout_"
        graph.graph.node.extend(
            [
                helper.make_node("Cast", ["leak"], ["leak_float"], to=TensorProto.FLOAT),
                helper.make_node("Unsqueeze", ["leak_float", "leak_axis"], ["leak_3d"]),
                helper.make_node("Mul", ["readout_", "leak_zero"], ["leak_zeros"]),
                helper.make_node("Shape", ["leak_zeros"], ["leak_steps"], start=1, end=2),
                helper.make_node("Slice", ["leak_3d", "leak_begin", "leak_steps", "leak_one"], ["leak_cut"]),
                helper.make_node("Add", ["leak_zeros", "leak_cut"], ["readout"]),
            ]
        )
        _constants(
            graph,
            leak_axis=np.array([0], np.int64),
            leak_begin=np.array([0], np.int64),
            leak_one=np.array([1], np.int64),
            leak_zero=np.array(0, np.float32),
        )

    return change


def endless_loop(graph: Any) -> None:
    """A loop of 2^62 turns before everything else."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["loop_c"], ["loop_c2"]),
            helper.make_node("Add", ["loop_x", "loop_x"], ["loop_x2"]),
        ],
        "endless",
        [
            helper.make_tensor_value_info("loop_i", TensorProto.INT64, []),
            helper.make_tensor_value_info("loop_c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("loop_x", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("loop_c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("loop_x2", TensorProto.FLOAT, [1]),
        ],
    )
    _constants(
        graph, loop_true=np.array(True), loop_turns=np.array(2**62, np.int64), loop_start=np.zeros(1, np.float32)
    )
    loop = helper.make_node("Loop", ["loop_turns", "loop_true", "loop_start"], ["loop_end"], body=body)
    graph.graph.node.insert(0, loop)
    graph.graph.output.append(helper.make_tensor_value_info("loop_end", TensorProto.FLOAT, [1]))


def _fifo(version: Path) -> None:
    (version / "network.pt").unlink()
    os.mkfifo(version / "network.pt")


def _loop(version: Path) -> None:
    replace_graph(version, endless_loop)


def _tail(version: Path) -> None:
    manifest = manifest_of(version)
    manifest["decision"]["tail_steps"] = 10**12
    write_manifest(version, manifest)


def _sparse(version: Path) -> None:
    (version / "network.pt").unlink()
    with (version / "network.pt").open("wb") as file:
        file.truncate(SPARSE_BYTES)


def _brackets(version: Path) -> None:
    (version / "manifest.json").write_text("[" * 2_000_000)


def _shape(shape: Sequence[int]) -> Spoil:
    def spoil(version: Path) -> None:
        manifest = manifest_of(version)
        network_of(manifest)["state"][0]["shape"] = list(shape)
        write_manifest(version, manifest)

    return spoil


def _nul_name(version: Path) -> None:
    manifest = manifest_of(version)
    manifest["files"]["a\0b"] = {"bytes": 1, "sha256": "0" * 64}
    network_of(manifest)["file"] = "a\0b"
    write_manifest(version, manifest)


def _models(stage: Stage, *names: str) -> Path:
    """A folder with models of the checkout; the first is the default."""
    folder = stage.folder / "models"
    for name in names:
        shutil.copytree(stage.checkout.models / name, folder / name)
    (folder / "default").write_text(f"{names[0]}\n")
    return folder


def _reload(server: AttackedServer, timeout_s: float = RELOAD_S) -> bool:
    """Wait until the server has reloaded the changed folder. Whether it came to an end."""
    before = server.metric("hetsyn_model_reloads_total")
    deadline_s = time.monotonic() + timeout_s
    while server.metric("hetsyn_model_reloads_total") == before:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)
    return True


def attack_reading(stage: Stage) -> Mapping[str, Figure]:
    """The server's working directory has a key. Does a graph get it?"""
    models = _models(stage, "speech-digits", "pattern-generation")
    (stage.folder / "carry.keys").write_bytes(SECRET)
    server = stage.server(models=models)
    version = models / "pattern-generation/2"
    copy_version(models / "pattern-generation/1", version)
    replace_graph(version, read_file("carry.keys"))
    reloaded = _reload(server)
    client = Client(server.port)
    answer = client.chunk(None, len(SECRET), model="pattern-generation", version="2")
    readout = answer.json().get("readout") or [] if answer.status == 200 else []
    values = [step[0] for step in readout]
    secret = set(SECRET)
    return {
        "leaked_bytes": sum(value in secret for value in values),
        "reloaded": int(reloaded),
        "offered": int(answer.status == 200),
        "other_model": client.outcome("other", begin="true"),
    }


def ending(spoil: Spoil) -> Callable[[Stage], Mapping[str, Figure]]:
    """The attack with a version that never loads: does a reload end, and does the next one see what was mended?"""

    def attack(stage: Stage) -> Mapping[str, Figure]:
        models = _models(stage, "speech-digits", MODEL)
        server = stage.server(LOAD_OPTION, models=models)
        version = models / MODEL / "2"
        copy_version(models / MODEL / "1", version)
        spoil(version)
        began_s = time.monotonic()
        ended = _reload(server)
        took_s = time.monotonic() - began_s
        served = Client(server.port).outcome("meanwhile", begin="true")
        shutil.rmtree(version)
        copy_version(models / MODEL / "1", models / MODEL / "3")
        again = _reload(server)
        offered = Client(server.port).outcome("mended", model=MODEL, version="3", begin="true")
        sigterm_s = server.end(10.0)
        return {
            "reload_ends": int(ended),
            "reload_s": took_s,
            "served_meanwhile": served,
            "next_reload_ends": int(again),
            "mended_version": offered,
            "sigterm_s": sigterm_s,
            "starts_with_it": int(_starts(stage, models, spoil)),
        }

    return attack


def _starts(stage: Stage, models: Path, spoil: Spoil) -> bool:
    """Whether a server starts with a version that never loads, and serves the other models."""
    version = models / MODEL / "4"
    copy_version(models / MODEL / "1", version)
    spoil(version)
    server = stage.server(LOAD_OPTION, models=models, is_awaited=False)
    try:
        server.await_ready()
        return Client(server.port, timeout_s=5.0).outcome("other", begin="true") == "200"
    except ServerError:
        return False
    finally:
        server.kill()


def attack_size(stage: Stage) -> Mapping[str, Figure]:
    """Files that are larger than the manifest says, or have no end."""
    models = _models(stage, "speech-digits", MODEL)
    server = stage.server(LOAD_OPTION, models=models)
    copy_version(models / MODEL / "1", models / MODEL / "2")
    _sparse(models / MODEL / "2")
    server.reset_peak()
    base_mib = server.peak_mib()
    ended = _reload(server)
    peak_mib = server.peak_mib() - base_mib
    return {"peak_mib": peak_mib, "reload_ends": int(ended), "live": Client(server.port).outcome("other", begin="true")}


def attack_refusals(stage: Stage) -> Mapping[str, Figure]:
    """Versions that are refused one by one: the others are loaded all the same."""
    models = _models(stage, "speech-digits", MODEL)
    server = stage.server(models=models)
    shapes: tuple[list[int], ...] = ([-6, 100], [0, 100], [2**62, 4], [6, 100, 10**9], [])
    spoils = (_brackets, _nul_name, *(_shape(shape) for shape in shapes))
    for number, spoil in enumerate(spoils, 2):
        copy_version(models / MODEL / "1", models / MODEL / str(number))
        spoil(models / MODEL / str(number))
    good = str(len(spoils) + 2)
    copy_version(models / MODEL / "1", models / MODEL / good)
    base_mib = server.peak_mib()
    ended = _reload(server)
    offered = Client(server.port).outcome("good", model=MODEL, version=good, begin="true")
    return {
        "reload_ends": int(ended),
        "good_version": offered,
        "tracebacks": server.log.read_text(errors="replace").count("Traceback"),
        "peak_mib": server.peak_mib() - base_mib,
    }


ENDS = {
    "reload_ends": exactly(1),
    "served_meanwhile": exactly("200"),
    "next_reload_ends": exactly(1),
    "mended_version": exactly("200"),
    "sigterm_s": at_most(8),
    "starts_with_it": exactly(1),
}
NEVER_ENDS: Mapping[str, Figure] = {"reload_ends": 0, "next_reload_ends": 0, "starts_with_it": 0}
CASES = (
    Case(
        "artifact-reads-files",
        "A graph reads a file in the server's working directory and says it in its readout.",
        attack_reading,
        {"leaked_bytes": exactly(0), "reloaded": exactly(1), "other_model": exactly("200")},
        {"leaked_bytes": 40},
    ),
    Case(
        "artifact-fifo",
        "A file that never ends keeps every later reload from happening.",
        ending(_fifo),
        ENDS,
        NEVER_ENDS,
    ),
    Case(
        "artifact-loop",
        "A graph that never ends keeps every later reload from happening.",
        ending(_loop),
        ENDS,
        NEVER_ENDS,
    ),
    Case(
        "artifact-tail",
        "A tail of 10^12 steps keeps every later reload from happening.",
        ending(_tail),
        ENDS,
        NEVER_ENDS,
    ),
    Case(
        "artifact-size",
        "A file is read before its size is compared with the manifest.",
        attack_size,
        {"peak_mib": at_most(512), "reload_ends": exactly(1), "live": exactly("200")},
        {"peak_mib": 3_100},
    ),
    Case(
        "artifact-refusals",
        "A manifest that makes Python fail in another way than expected stops the loading of other versions.",
        attack_refusals,
        {"reload_ends": exactly(1), "good_version": exactly("200"), "peak_mib": at_most(512)},
    ),
)
