"""Hashes of everything that a build of the operators computes for the models of a folder, as JSON on stdout.

``python -m tests.support.networks.operator_digests LIBRARY [MODELS]`` runs the golden streams of every model, by
default the shipped ones, in chunks of several lengths, and noise through the encoder, with one thread and with eight.
Two builds are alike if they print the same, and so are two levels of the processor (``HETSYN_KERNEL=v2``). It needs
ONNX Runtime and NumPy alone, so that it runs where the rest of the tests cannot.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from service.runtime.onnx import Array, Graph, load_graph
from tests.support.paths import MODELS

CUTS = (1, 7, 40, 1 << 30)
THREADS = (1, 8)


def digests(library: Path, models: Path = MODELS) -> dict[str, str]:
    """Compute a digest of each network and of each encoder.

    Raises:
        AssertionError: with more threads a model computes something else.
    """
    found = {}
    for folder in sorted(path.parent for path in models.glob("*/*/manifest.json")):
        manifest = json.loads((folder / "manifest.json").read_text())
        golden = np.load(folder / "golden.npz")
        for part, run in (("network", _network), ("encoder", _encoder)):
            if described := manifest[part]:
                content, each = (folder / described["file"]).read_bytes(), set[str]()
                for threads in THREADS:
                    graph = load_graph(content, threads=threads, operators=library)
                    each.add(run(graph, described, golden))
                (found[f"{folder.parent.name} {part}"],) = each
    return found


def _network(graph: Graph, described: dict[str, Any], golden: Mapping[str, Array]) -> str:
    layout: list[dict[str, Any]] = described["state"]
    spikes, lengths = golden["spikes"], golden["steps"]
    words = sum(prod(tensor["shape"]) for tensor in layout if tensor["dtype"] == "float32")
    state = {"state": np.zeros((len(lengths), words), np.float32), "step": np.zeros(len(lengths), np.int64)}
    digest = hashlib.sha256()
    start = 0
    for cut in CUTS:
        steps = np.clip(lengths - start, 0, cut)
        longest = int(steps.max())
        stream, t, unit = np.nonzero(spikes[:, start : start + longest])
        inside = t < steps[stream]
        events = {"events.row": stream[inside] * longest + t[inside], "events.unit": unit[inside], "steps": steps}
        got = graph.run({name: value.astype(np.int64) for name, value in events.items()} | state, graph.outputs)
        state = {name: got[f"next.{name}"] for name in state}
        for name in sorted(got):
            values = got[name]
            if name == "readout" or name.endswith(".spikes"):  # undefined past a stream's end
                values = np.where((np.arange(longest) < steps[:, None])[:, :, None], values, 0)
            digest.update(values.tobytes())
        start += longest
    return digest.hexdigest()


def _encoder(graph: Graph, described: dict[str, Any], golden: Mapping[str, Array]) -> str:  # noqa: ARG001
    steps, is_values = 50, described.get("kind") == "values"  # older manifests have sound alone
    shape = (3, steps, described["channels"]) if is_values else (3, steps * described["samples_per_step"])
    loudness = np.reshape([0.3, 0.01, 0.0001], (3, *[1] * (len(shape) - 1)))
    noise = np.random.default_rng(0).normal(size=shape) * loudness
    state: dict[str, Array] = {
        f"state.{t['name']}": np.full((3, *t["shape"]), t["initial"], t["dtype"]) for t in described["state"]
    }
    signal = "values" if is_values else "audio"
    inputs: dict[str, Array] = {signal: noise.astype(np.float32), "steps": np.array([steps, steps, 7], np.int64)}
    got = graph.run(inputs | state, graph.outputs)
    return hashlib.sha256(b"".join(got[name].tobytes() for name in sorted(got))).hexdigest()


if __name__ == "__main__":
    print(json.dumps(digests(*map(Path, sys.argv[1:])), indent=1))
