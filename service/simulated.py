"""Builds a server for the simulator: the product's own parts, with a hash chain in place of a network.

``tests/simulation`` runs such servers on event loops of its own. It knows of the product only what this module gives,
the client, and the pure protocols; so whatever changes inside a server, the simulator's faults and its oracle stay.

The network is a chain: its state after a step is the hash of the state before and of the step's spikes. The class
probabilities show the state, so a reply says which chunks it has counted.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from functools import cache, partial
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import uvicorn
from uvicorn.server import ServerState

from service.app import Server, application_of
from service.app import build_server as build
from service.carried.carry_keys import CarryKeys
from service.clock import Clock, Executors
from service.contract.artifact import Artifact
from service.contract.graph_io import (
    EVENT_ROW,
    EVENT_UNIT,
    NEXT_STATE,
    NEXT_STEP,
    PROBABILITIES,
    READOUT,
    SCORES,
    STATE,
    STEP,
    STEPS,
    network_inputs,
    network_outputs,
)
from service.contract.manifest import DECISION_SCORE, DECISION_STEP, Manifest
from service.grpc.guard import Guard
from service.grpc.servicer import Servicer
from service.keys.caller import Scope
from service.keys.credential import Token
from service.keys.document import KeyEntry, KeyLimits, KeysDocument, SecretEntry, utc_now, write_document
from service.models.catalog import CatalogSnapshot, ModelCatalog, group_by_name
from service.models.model import Model
from service.runtime.onnx import Array
from service.settings import AccessSettings, Batching, Limits, Retention, Settings, StoreSettings
from service.shutdown import drained
from service.store.database import Connect

CHANNELS, OUTPUTS = 8, 3
STATE_WORDS = 4
WORD = 2**24  # below it, float32 has every whole number
SHARE = 2**16  # the probabilities are multiples of its inverse, so that float32 and JSON have them exactly
MODEL = "chain"
TAIL_STEPS = 1
LAG_INTERVAL_S = 10.0  # a turn of each server's event loop costs time, and virtual time has no lag

Step = Callable[[bytes, Sequence[int]], bytes]
"""Computes the state, 12 bytes, after a step with these spikes, in ascending order."""


def hash_step(state: bytes, units: Sequence[int]) -> bytes:
    """Return the hash of a state and the spikes of a step, 12 bytes."""
    return hashlib.blake2b(state + bytes(units), digest_size=12).digest()


def probabilities_of(state: bytes) -> list[float]:
    """Return class probabilities that show 32 bits of a state: multiples of 1 / ``SHARE`` with the sum 1."""
    low, high = sorted((int.from_bytes(state[:2], "big"), int.from_bytes(state[2:4], "big")))
    return [low / SHARE, (high - low) / SHARE, (SHARE - high) / SHARE]


class _Chain:
    """A graph of the contract whose network is a step."""

    inputs = tuple(network_inputs(STATE_WORDS + OUTPUTS))
    outputs = tuple(network_outputs(STATE_WORDS + OUTPUTS, OUTPUTS, {}))

    def __init__(self, step: Step) -> None:
        self._step = step

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        steps = inputs[STEPS].tolist()
        longest = max(steps)
        units: dict[int, list[int]] = {}
        for row, unit in zip(inputs[EVENT_ROW].tolist(), inputs[EVENT_UNIT].tolist(), strict=True):
            units.setdefault(row, []).append(unit)
        rows, shares = [], []
        for stream, (count, row) in enumerate(zip(steps, inputs[STATE].tolist(), strict=True)):
            state = b"".join([int(word).to_bytes(3, "big") for word in row[:STATE_WORDS]])
            for step in range(count):
                state = self._step(state, sorted(units.get(stream * longest + step, ())))
            words = [float(int.from_bytes(state[3 * word : 3 * word + 3], "big")) for word in range(STATE_WORDS)]
            shares.append(probabilities_of(state))
            rows.append(words + shares[-1])
        probabilities = np.array(shares, np.float32)
        values = {
            NEXT_STATE: np.array(rows, np.float32),
            NEXT_STEP: inputs[STEP] + inputs[STEPS],
            SCORES: probabilities,
            PROBABILITIES: probabilities.copy(),
            READOUT: np.zeros((len(steps), longest, OUTPUTS), np.float32),
        }
        return {name: values[name] for name in outputs}

    def stop(self) -> None:
        """Do nothing: its runs are short."""


class _NoFolder(Artifact):
    """An artifact without files."""

    def read(self, name: str) -> bytes:  # noqa: ARG002
        return b""


@cache
def _model(version: str, step: Step) -> Model:
    """Make a version of the model; versions have different content."""
    entry = {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    state: list[dict[str, object]] = [
        {"name": "chain", "shape": (STATE_WORDS,), "dtype": "float32", "initial": 0.0},
        {"name": DECISION_SCORE, "shape": (OUTPUTS,), "dtype": "float32", "initial": 0.0},
        {"name": DECISION_STEP, "shape": (), "dtype": "int64", "initial": 0.0},
    ]
    manifest = Manifest.model_validate(
        {
            "format_version": 6,
            "name": MODEL,
            "version": version,
            "description": "a hash chain",
            "labels": [f"label{index}" for index in range(OUTPUTS)],
            "input": {"channels": CHANNELS, "step_s": 0.01},
            "encoder": None,
            "hidden": (),
            "outputs": OUTPUTS,
            "decision": {"rule": "last", "skip_steps": 0, "tail_steps": TAIL_STEPS},
            "network": {
                "form": "exact",
                "file": "exact.onnx",
                "torchscript": None,
                "exactness": "B",
                "state": state,
                "state_bytes": 4 * (STATE_WORDS + OUTPUTS) + 8,
                "bank_sizes": {},
                "kernel_error": {},
            },
            "files": {"exact.onnx": entry},
            "provenance": {},
        }
    )
    return Model(_NoFolder(Path(MODEL), manifest), lambda _: _Chain(step))


class _PartOfThisLoop:
    """A part of the server whose event loop runs now: one application serves all servers of all worlds.

    Building it takes 30 ms, a tenth of a world, and a world has up to three servers, which start again.

    While the application is built, no loop runs. A part of a part is then one of these, too.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __getattr__(self, name: str) -> Any:
        path = f"{self._path}.{name}"
        loop = asyncio._get_running_loop()
        return _PartOfThisLoop(path) if loop is None else attrgetter(path)(_servers[loop])

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        return attrgetter(self._path)(_servers[asyncio.get_running_loop()])(*arguments, **more)


_servers: WeakKeyDictionary[asyncio.AbstractEventLoop, Server] = WeakKeyDictionary()


@cache
def _config(*, has_keys: bool) -> uvicorn.Config:
    """Make the application of all simulated servers with keys, or without, as uvicorn takes it."""
    own = {"settings": Settings(models=Path(MODEL))} | ({} if has_keys else {"access_keys": None})
    shared: Any = SimpleNamespace(**{field.name: _PartOfThisLoop(field.name) for field in fields(Server)} | own)
    app = application_of(shared, lambda _: None)  # type: ignore[arg-type, return-value]
    config = uvicorn.Config(app, log_config=None, ws="none", proxy_headers=False, access_log=False)
    config.load()
    return config


@dataclass(frozen=True)
class Held:
    """What a server holds for its clients now."""

    entries: int
    open_sessions: int
    session_bytes: int
    permits: int
    bytes: int
    streams: int
    connections: int
    uploads: int
    waiting_work: int


class _InOrder(dict[Any, None]):
    """A set in the order of its items, for uvicorn's connections: a drain must close them in the same order again."""

    def add(self, item: object) -> None:
        self[item] = None

    def discard(self, item: object) -> None:
        self.pop(item, None)


class SimulatedServer:
    """A server, used from one event loop."""

    def __init__(self, server: Server, step: Step) -> None:
        self._server = server
        self._step = step
        self._state = ServerState()
        self._state.connections = _InOrder()  # type: ignore[assignment]
        keys = server.access_keys
        self._has_keys = keys is not None
        self._guard = None if keys is None else Guard(keys, server.ingress.refused)
        self._servicer = Servicer(server.open_inference, server.ingress, server.settings.limits.idle_timeout_s, keys)

    def protocol(self) -> asyncio.Protocol:
        """Make the server's end of a connection over HTTP or WebSocket."""
        return self._server.protocol(config=_config(has_keys=self._has_keys), server_state=self._state, app_state={})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the server, and end it as ``Server.running``."""
        _servers[asyncio.get_running_loop()] = self._server
        async with self._server.running():
            yield

    async def call(self, method: str, message: Any, context: Any) -> Any:
        """Answer a call of gRPC. It asks for a key first, if the server has keys."""
        if self._guard is not None:
            details = SimpleNamespace(
                method=f"/inference.GRPCInferenceService/{method}", invocation_metadata=context.invocation_metadata()
            )
            refusing = await self._guard.intercept_service(_go_on, details)
            if refusing is not None:
                await refusing.stream_stream(None, context)
        return await getattr(self._servicer, method)(message, context)

    def offer(self, versions: Sequence[str]) -> None:
        """Offer these versions of the model from now on, and retire the others."""
        models = [_model(version, self._step) for version in versions]
        self._server.catalog.publish(CatalogSnapshot(group_by_name(models), MODEL))

    async def drain(self) -> None:
        """Leave the rotation, finish the requests in flight, and close the connections, as after SIGTERM."""
        settings, refuse = self._server.settings, self._server.refuse
        await drained(
            self._server.admission, settings.drain_s, settings.finish_s, refuse, asyncio.Event(), asyncio.Event()
        )
        for connection in list(self._state.connections):
            connection.shutdown()

    @property
    def background_tasks(self) -> int:
        """Count the sweep, the watch of the folder of models, that of the event loop, and that of the keys."""
        return 3 + self._has_keys

    @property
    def held(self) -> Held:
        server = self._server
        return Held(
            len(server.registry.sessions.quota.entries),
            server.registry.sessions.open,
            server.registry.sessions.quota.all.bytes,
            server.admission.in_flight,
            server.admission.budget.bytes.total,
            server.admission.budget.streams.total,
            len(server.connections),
            server.uploads.under_way,
            server.batcher.waiting_work,
        )


async def _go_on(_: Any) -> None:
    """Let a call pass: it is made after the guard."""


def write_keys(path: Path, most_sessions: Mapping[str, int]) -> dict[str, str]:
    """Write a file of keys, each with the most sessions that it may have. Returns what their clients send, by name."""
    tokens = {name: Token.new() for name in most_sessions}
    now = utc_now()
    entries = [
        KeyEntry(
            name=name,
            scopes=(Scope.infer,),
            limits=KeyLimits(max_sessions=most),
            secrets=(SecretEntry.of(tokens[name], now),),
        )
        for name, most in most_sessions.items()
    ]
    write_document(path, KeysDocument(keys=tuple(entries)))
    return {name: token.text for name, token in tokens.items()}


def settings_of(
    store: str,
    store_timeout_s: float,
    *,
    keys: Path | None = None,
    limits: Mapping[str, Any] = MappingProxyType({}),
    retention: Mapping[str, Any] = MappingProxyType({}),
    batching: Mapping[str, Any] = MappingProxyType({}),
) -> Settings:
    """Make settings of a simulated server, with a store's URL, and other values than the defaults by name."""
    named: dict[str, Any] = {
        "access": AccessSettings(keys=keys),
        "limits": Limits(**limits),
        "retention": Retention(**retention),
        "batching": Batching(**batching),
    }
    return Settings(
        models=Path(MODEL), watch_s=0, store=StoreSettings(store, store_timeout_s), drain_s=3.0, finish_s=5.0, **named
    )


def build_server(
    settings: Settings,
    *,
    clock: Clock,
    wall: Clock,
    executors: Executors,
    connect: Connect,
    step: Step = hash_step,
    carry_key: bytes = bytes(range(32)),
) -> SimulatedServer:
    """Build a server.

    Args:
        clock: seconds, for deadlines and for sessions in memory.
        wall: seconds since 1970.
        executors: makes the threads.
        connect: opens the database of a file store.
        step: the network.
        carry_key: seals carried sessions.
    """
    _config(has_keys=settings.access.keys is not None)  # outside of a loop
    catalog = ModelCatalog(settings.models, partial(_no_graph), is_empty=True)
    catalog.publish(CatalogSnapshot(group_by_name([_model("1", step)]), MODEL))
    server = build(
        settings,
        catalog,
        clock,
        wall=wall,
        keys=CarryKeys([carry_key]),
        deadlines=clock,
        executors=executors,
        connect=connect,
    )
    server.counters.timings.lag_interval_s = LAG_INTERVAL_S
    return SimulatedServer(server, step)


def _no_graph(_: bytes) -> Any:
    raise AssertionError("the simulator reads no files of models")
