"""A writer of small, complete artifacts around fake graphs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from service.contract.manifest import FORMAT_VERSION, MANIFEST, FormName, TensorDescription
from tests.support.artifacts.fake_graph import (
    CHANNELS,
    CROSSING_STATE,
    ENCODER_STATE,
    HIDDEN,
    LABELS,
    NETWORK_STATE,
    OUTPUTS,
    RATE_HZ,
    ROW,
    SKIP,
    STEP_SAMPLES,
    TAIL,
    Rule,
)

Takes = Literal["spikes", "audio", "values", "rows", "frames"]
"""Of a model beside spikes: audio or rows of values through an encoder; values, or frames of audio, by the network."""


def write_artifact(
    models: Path,
    name: str = "digits",
    version: str = "1",
    *,
    rule: Rule = "sum_softmax",
    takes_audio: bool = True,
    takes: Takes | None = None,
    form: FormName = "exact",
    change: Mapping[str, Any] | None = None,
) -> Path:
    """Write a complete artifact ``models/NAME/VERSION`` around fake graphs.

    Args:
        takes_audio: with an encoder of audio, where ``takes`` does not say what it takes.
        change: fields of the manifest with another value.

    Returns:
        Its folder.
    """
    folder = models / name / version
    folder.mkdir(parents=True)
    contents = {"golden.npz": b"none"}
    takes = takes or ("audio" if takes_audio else "spikes")
    kind = "values" if takes in ("values", "frames") else "spikes"
    graph = {"graph": "network" if kind == "spikes" else "values", "rule": rule, "scale": 1.0}
    contents |= {f"{form}.onnx": json.dumps(graph).encode(), f"{form}.pt": b"script"}
    if takes in ("audio", "rows"):
        graph_of = {"audio": "encoder", "rows": "crossing"}
        contents["encoder.onnx"] = json.dumps({"graph": graph_of[takes]}).encode()
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "version": version,
        "description": "a fake",
        "labels": [] if rule == "trace" else list(LABELS),
        "input": {"kind": kind, "channels": CHANNELS, "step_s": STEP_SAMPLES / RATE_HZ, "description": "loudness"},
        "encoder": _encoder(takes),
        "hidden": [HIDDEN],
        "outputs": OUTPUTS,
        "decision": {"rule": rule, "skip_steps": SKIP, "tail_steps": TAIL},
        "network": {
            "form": form,
            "file": f"{form}.onnx",
            "torchscript": f"{form}.pt",
            "exactness": "B",
            "state": _described(NETWORK_STATE),
            "state_bytes": 8 * OUTPUTS + 8,
            "bank_sizes": {"out": 8} if form == "bank" else {},
            "kernel_error": {"out": 0.001 if form == "bank" else 0.0},
            "accuracy": 0.9,
            "spike_mismatch": 0.01 if form == "bank" else None,
        },
        "files": {
            file: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for file, content in contents.items()
        },
        "provenance": {"seed": 7},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest | dict(change or {})))
    return folder


def reject(folder: Path, *labels: str, threshold: float | None = None) -> None:
    """Let an artifact with the rule ``last`` answer null where one of these labels is the likeliest.

    With a threshold it names the likeliest other label if that has at least this probability.
    """
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest |= {"rejected_labels": labels, "acceptance_threshold": threshold}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _encoder(takes: Takes) -> dict[str, Any] | None:
    audio = {"kind": "audio", "sample_rate_hz": RATE_HZ}
    if takes == "audio":
        state = _described(ENCODER_STATE)
        return {**audio, "file": "encoder.onnx", "samples_per_step": STEP_SAMPLES, "state": state}
    if takes == "frames":
        return {**audio, "file": None, "samples_per_step": CHANNELS, "state": []}
    if takes == "rows":
        state = _described(CROSSING_STATE)
        rows = {"kind": "values", "file": "encoder.onnx", "channels": ROW, "state": state}
        return {**rows, "sample_rate_hz": 0, "samples_per_step": 1}
    return None


def _described(state: Sequence[TensorDescription]) -> list[dict[str, Any]]:
    return [tensor.model_dump(mode="json") for tensor in state]
