"""Stand-ins for ONNX graphs, a writer of complete small artifacts around them, and a store that fails.

A fake graph is NumPy, deterministic, and treats each stream alone, step by step, so its results depend
neither on the batch nor on the chunking. Its file is JSON; ``load_fake`` takes the place of ``load_graph``.

    network   potential(t) = 0.5 potential(t-1) + sum of weights of the spikes; score by the decision rule
    encoder   spike on channel k where the step's loudness rises above (k + 1) / (channels + 1)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from service.errors import HetsynError, StoreUnavailable
from service.runtime.device import DeviceGraph
from service.runtime.onnx import Array, DeviceTensor, Graph, GraphLoader, OrtGraph
from service.store.base import Change, CommitResult, Stored
from service.store.memory import MemoryStore

Rule = Literal["sum_softmax", "spike_count", "last", "trace"]

CHANNELS, OUTPUTS = 6, 3
LABELS = ("one", "two", "three")
STEP_SAMPLES, RATE_HZ = 80, 8000
SKIP, TAIL = 2, 3


class FakeNetwork:
    """The contract's network graph, for a row of state ``out.potential | decision.score``."""

    inputs = (
        "events.row",
        "events.unit",
        "steps",
        "state",
        "step",
    )
    outputs = (
        "next.state",
        "next.step",
        "scores",
        "probabilities",
        "readout",
        "hidden.spikes",
    )

    def __init__(self, rule: Rule, scale: float) -> None:
        self.rule = rule
        grid = np.arange(CHANNELS * OUTPUTS, dtype=np.float32).reshape(CHANNELS, OUTPUTS)
        self.weights = (np.sin(grid) * scale).astype(np.float32)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        check_inputs(inputs, self.inputs)
        steps = inputs["steps"]
        longest = int(steps.max())
        rows, units = inputs["events.row"], inputs["events.unit"]
        check_events(rows, units, len(steps) * longest)
        potential, score = np.split(inputs["state"].copy(), 2, axis=1)
        step = inputs["step"].copy()
        # past a stream's end the contract leaves the readout undefined
        readout = np.full((len(steps), longest, OUTPUTS), np.nan, np.float32)
        for b, count in enumerate(steps):
            for t in range(count):
                potential[b] = np.float32(0.5) * potential[b]
                for unit in units[rows == b * longest + t]:
                    potential[b] += self.weights[unit]
                readout[b, t] = potential[b]
                if step[b] >= SKIP:
                    score[b] = self._score(score[b], potential[b])
                step[b] += 1
        values = {
            "next.state": np.concatenate([potential, score], axis=1),
            "next.step": step,
            "scores": score,
            "probabilities": np.stack([self._probabilities(s, int(n)) for s, n in zip(score, step, strict=True)]),
            "readout": readout,
        }
        return {name: values[name] for name in outputs}

    def _score(self, score: Array, potential: Array) -> Array:
        if self.rule == "sum_softmax":
            return score + softmax(potential)
        if self.rule == "spike_count":
            return score + (potential > 0.5).astype(np.float32)
        return potential

    def _probabilities(self, score: Array, step: int) -> Array:
        if self.rule != "sum_softmax":
            return softmax(score)
        counted = step - SKIP
        return score / np.float32(counted) if counted > 0 else np.full_like(score, 1 / OUTPUTS)


class FakeEncoder:
    """The contract's encoder graph, for the state ``loudness``."""

    inputs = ("audio", "steps", "state.loudness")
    outputs = ("events.row", "events.unit", "next.loudness")

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        check_inputs(inputs, self.inputs)
        steps = inputs["steps"]
        longest = int(steps.max())
        loudness = inputs["state.loudness"].copy()
        frames = inputs["audio"].reshape(len(steps), longest, STEP_SAMPLES)
        thresholds = np.arange(1, CHANNELS + 1) / (CHANNELS + 1)
        rows: list[int] = []
        units: list[int] = []
        for b, count in enumerate(steps):
            for t in range(count):
                now = float(np.abs(frames[b, t].astype(np.float64)).max())
                for unit in np.flatnonzero((now > thresholds) & (loudness[b] <= thresholds)):
                    rows.append(b * longest + t)
                    units.append(int(unit))
                loudness[b] = now
        values: dict[str, Array] = {
            "events.row": np.array(rows, np.int64),
            "events.unit": np.array(units, np.int64),
            "next.loudness": loudness,
        }
        return {name: values[name] for name in outputs}


class FakeDevice:
    """A device that is the host's memory behind addresses: counts what it does, and holds to what it gave.

    Its graphs are what ``load`` makes of their bytes: those of ONNX Runtime run on the addresses themselves, a fake is
    given the values that lie there.

    Args:
        capacity: bytes that it has.
    """

    name = "a fake GPU"

    def __init__(self, load: GraphLoader | None = None, capacity: int = 1 << 30) -> None:
        self.lock = threading.Lock()
        self.capacity = capacity
        self.failure: Exception | None = None  # of every graph's run
        self.uploads = self.downloaded_bytes = self.copied_rows = self.copies = self.runs = 0
        self._load = load or load_fake
        self._blocks: dict[int, Array] = {}

    def load(self, content: bytes) -> DeviceGraph:
        return _OnFakeDevice(self._load(content), self)

    @property
    def used(self) -> int:
        return sum(block.nbytes for block in self._blocks.values())

    def allocate(self, nbytes: int) -> int | None:
        if self.used + nbytes > self.capacity:
            return None
        block = np.full(nbytes // 4, np.nan, np.float32)  # nobody may count on zeros
        address = block.ctypes.data
        self._blocks[address] = block
        return address

    def release(self, address: int) -> None:
        del self._blocks[address]

    def copy_rows(self, sources: Sequence[int], targets: Sequence[int], row_bytes: int) -> None:
        assert self.lock.locked()
        self.copies += 1
        self.copied_rows += len(sources)
        for source, target in zip(sources, targets, strict=True):
            self.at(target, row_bytes)[:] = self.at(source, row_bytes)

    def upload(self, values: Array, address: int) -> None:
        assert self.lock.locked()
        self.uploads += 1
        self.at(address, values.nbytes)[:] = values.reshape(-1).view(np.uint8)

    def download(self, address: int, nbytes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        assert self.lock.locked()
        self.downloaded_bytes += nbytes
        return self.at(address, nbytes).copy()

    def at(self, address: int, nbytes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Its bytes there, if all of them are its own."""
        for begin, block in self._blocks.items():
            if begin <= address and address + nbytes <= begin + block.nbytes:
                return block.view(np.uint8)[address - begin : address - begin + nbytes]
        raise ValueError("memory that was not allocated")


class _OnFakeDevice:
    def __init__(self, graph: Graph, device: FakeDevice) -> None:
        self._graph = graph
        self._device = device
        self.inputs = graph.inputs
        self.outputs = graph.outputs

    def run(self, *_: Any, **__: Any) -> dict[str, Array]:
        raise AssertionError("states would travel through the host")

    def run_bound(self, inputs: Mapping[str, Array | DeviceTensor], outputs: Mapping[str, DeviceTensor]) -> None:
        assert self._device.lock.locked()
        self._device.runs += 1
        places = {name: self._bytes(place) for name, place in outputs.items()}
        given = {
            name: self._bytes(value) if isinstance(value, DeviceTensor) else value for name, value in inputs.items()
        }
        if isinstance(self._graph, OrtGraph):
            self._graph.run_bound(inputs, outputs)
        else:
            for name, value in inputs.items():
                if isinstance(value, DeviceTensor):
                    given[name] = given[name].view(value.dtype).reshape(value.shape).copy()
            for name, values in self._graph.run(given, list(outputs)).items():
                assert values.shape == outputs[name].shape
                places[name][:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        if self._device.failure is not None:  # late: whatever it was to write it has written
            raise self._device.failure

    def _bytes(self, place: DeviceTensor) -> Array:
        return self._device.at(place.address, place.dtype.itemsize * int(np.prod(place.shape)))


class Gate:
    """Wraps a loader: every ``run`` waits until the gate is open, and fails while ``failure`` is set."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.opened.set()
        self.entered = threading.Semaphore(0)
        self.failure: Exception | None = None
        self.calls = 0

    def load(self, content: bytes) -> Graph:
        return _Gated(load_fake(content), self)


class FailingStore:
    """A store in memory that fails on demand.

    down: nothing is done. deaf: commits are done, but their answers are lost. late: commits are answered as lost, and
    wait for ``run_late``. opened: cleared, every call waits. batches: sizes of the commits so far.
    """

    name = "failing"

    def __init__(self, inner: MemoryStore | None = None) -> None:
        self.inner = inner or MemoryStore()
        self.down = self.deaf = self.late = False
        self.opened = asyncio.Event()
        self.opened.set()
        self.entered = asyncio.Event()
        self.batches: list[int] = []
        self.loads = 0
        self.closed = False
        self._late: list[Change] = []

    async def start(self) -> None:
        await self.health()

    async def load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        await self._enter()
        self.loads += len(sessions)
        return [_lost() for _ in sessions] if self.down else await self.inner.load(sessions)

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        await self._enter()
        self.batches.append(len(changes))
        if self.late:
            self._late += changes
        elif not self.down:
            verdicts = await self.inner.commit(changes)
            if not self.deaf:
                return verdicts
        return [_lost() for _ in changes]

    async def run_late(self) -> list[CommitResult | HetsynError]:
        """Do what was sent while ``late``, in the order in which it was."""
        late, self._late = self._late, []
        return [(await self.inner.commit([change]))[0] for change in late]

    async def expire(self) -> int:
        if self.down:
            raise _lost()
        return await self.inner.expire()

    async def health(self) -> None:
        if self.down:
            raise _lost()

    async def close(self) -> None:
        self.closed = True

    async def _enter(self) -> None:
        self.entered.set()
        await self.opened.wait()


def _lost() -> StoreUnavailable:
    return StoreUnavailable("the session store failed (a fake): send the chunk again later")


class _Gated:
    def __init__(self, graph: Graph, gate: Gate) -> None:
        self._graph = graph
        self._gate = gate
        self.inputs = graph.inputs
        self.outputs = graph.outputs

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        self._gate.calls += 1
        self._gate.entered.release()
        if not self._gate.opened.wait(timeout=10):
            raise TimeoutError("the gate stayed closed")
        if self._gate.failure is not None:
            raise self._gate.failure
        return self._graph.run(inputs, outputs)


def load_fake(content: bytes) -> Graph:
    """A graph from what ``write_artifact`` wrote."""
    described = json.loads(content)
    if described["graph"] == "encoder":
        return FakeEncoder()
    return FakeNetwork(described["rule"], described["scale"])


def check_inputs(given: Mapping[str, Array], expected: Sequence[str]) -> None:
    """A graph of ONNX Runtime refuses inputs that it does not know, so a fake does too."""
    if set(given) != set(expected):
        raise ValueError(f"inputs {sorted(given)} are not {sorted(expected)}")


def check_events(rows: Array, units: Array, rows_at_most: int) -> None:
    """What the contract promises a graph about its events."""
    pairs = list(zip(rows.tolist(), units.tolist(), strict=True))
    if sorted(rows.tolist()) != rows.tolist() or len(set(pairs)) != len(pairs):
        raise ValueError("rows do not ascend, or a pair is there twice")
    if any(not (0 <= row < rows_at_most and 0 <= unit < CHANNELS) for row, unit in pairs):
        raise ValueError("an event is outside the batch")


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max())
    result: Array = powers / powers.sum()
    return result


def write_artifact(
    models: Path,
    name: str = "digits",
    version: str = "1",
    *,
    rule: Rule = "sum_softmax",
    hears: bool = True,
    forms: Sequence[str] = ("exact", "bank"),
    change: Mapping[str, Any] | None = None,
) -> Path:
    """A complete artifact ``models/NAME/VERSION`` around fake graphs; its folder.

    Args:
        hears: with an encoder. change: fields of the manifest to be written otherwise.
    """
    folder = models / name / version
    folder.mkdir(parents=True)
    contents = {"golden.npz": b"none"}
    for index, form in enumerate(forms):
        graph = {"graph": "network", "rule": rule, "scale": 1.0 - 0.25 * index}
        contents |= {f"{form}.onnx": json.dumps(graph).encode(), f"{form}.pt": b"script"}
    if hears:
        contents["encoder.onnx"] = json.dumps({"graph": "encoder"}).encode()
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    state = [
        _tensor("out.potential", [OUTPUTS], "float32", 0.0),
        _tensor("decision.score", [OUTPUTS], "float32", 0.0),
        _tensor("decision.step", [], "int64", 0.0),
    ]
    manifest = {
        "format_version": 2,
        "name": name,
        "version": version,
        "description": "a fake",
        "labels": [] if rule == "trace" else list(LABELS),
        "input": {"channels": CHANNELS, "step_s": STEP_SAMPLES / RATE_HZ, "description": "loudness"},
        "encoder": {
            "file": "encoder.onnx",
            "sample_rate_hz": RATE_HZ,
            "samples_per_step": STEP_SAMPLES,
            "state": [_tensor("loudness", [], "float64", 0.0)],
        }
        if hears
        else None,
        "hidden": [4],
        "outputs": OUTPUTS,
        "decision": {"rule": rule, "skip_steps": SKIP, "tail_steps": TAIL},
        "default_form": forms[0],
        "forms": {
            form: {
                "file": f"{form}.onnx",
                "torchscript": f"{form}.pt",
                "state": state,
                "state_bytes": 8 * OUTPUTS + 8,
                "bank_sizes": {"out": 8} if form == "bank" else {},
                "kernel_error": {"out": 0.001 if form == "bank" else 0.0},
                "accuracy": 0.9,
                "spike_mismatch": 0.01 if form == "bank" else None,
            }
            for form in forms
        },
        "files": {
            file: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for file, content in contents.items()
        },
        "provenance": {"seed": 7},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | dict(change or {})))
    return folder


def _tensor(name: str, shape: list[int], dtype: str, initial: float) -> dict[str, Any]:
    return {"name": name, "shape": shape, "dtype": dtype, "initial": initial}


def sound(samples: int, seed: int = 0) -> Array:
    """int16 samples of bursts of differing loudness."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0, 1, samples // 200 + 1), 200)[:samples]
    return (rng.uniform(-1, 1, samples) * loudness * 32_767).astype(np.int16)


def spikes(steps: int, seed: int = 0) -> tuple[Array, Array]:
    """times, units int64 of a random train, ascending."""
    times, units = np.nonzero(np.random.default_rng(seed).random((steps, CHANNELS)) < 0.3)
    return times.astype(np.int64), units.astype(np.int64)
