"""The parts of a checkout, and the chunks that it gets."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import wave
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from uvicorn.server import ServerState

CHUNKS = 64  # different ones, in turn
STEPS, CHANNELS, DENSITY = 25, 700, 0.045  # of a chunk for ``shd-size``
CHUNK_S = 0.1  # of sound


class Spikes:
    """Random spikes of a chunk.

    Attributes:
        step, unit: int64 [spikes], ascending.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.step, self.unit = (
            axis.astype(np.int64) for axis in np.nonzero(random.random((STEPS, CHANNELS)) < DENSITY)
        )


class Sound:
    """A piece of a recording.

    Attributes:
        samples: int16 [n].
        rate_hz: sample rate.
    """

    def __init__(self, samples: Any, rate_hz: int) -> None:
        self.samples, self.rate_hz = samples, rate_hz


def contents_for(model: str, recordings: Path) -> list[Any]:
    """Make chunks for a model: spikes, or sound of the shipped recordings, all of one rate."""
    if model == "shd-size":
        random = np.random.default_rng(0)
        return [Spikes(random) for _ in range(CHUNKS)]
    pieces = []
    for path in sorted(recordings.glob("*.wav")):
        with wave.open(str(path)) as file:
            rate_hz, samples = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")
        length = round(CHUNK_S * rate_hz)
        pieces += [Sound(samples[at : at + length], rate_hz) for at in range(0, len(samples) - length, length)]
    return [piece for piece in pieces if piece.rate_hz == pieces[0].rate_hz][:CHUNKS]


class Checkout:
    """The parts of a checkout. All that differs between checkouts is here.

    Args:
        root: its folder.
        models: folder of the models to serve.
    """

    def __init__(self, root: Path, models: Path) -> None:
        self._root = root
        self._models = models
        self.pack_events = self._part("hetsyn_client.events:pack_events", "service.packed_events:pack_events")
        self.events_type = self._part("hetsyn_client.events:MEDIA_TYPE", "service.packed_events:MEDIA_TYPE")
        catalog = self._part("service.models.catalog:ModelCatalog", "service.models:ModelCatalog")
        self.catalog = catalog(models)

    def _part(self, *places: str) -> Any:
        """Find the first of these names that is in the checkout, and not in another that is installed."""
        for place in places:
            module, _, name = place.partition(":")
            try:
                found = importlib.util.find_spec(module)
            except ModuleNotFoundError:  # its package is missing
                continue
            if found is None or found.origin is None or not Path(found.origin).is_relative_to(self._root):
                continue
            if hasattr(imported := importlib.import_module(module), name):
                return getattr(imported, name)
        raise SystemExit(
            f"{self._root} has none of {', '.join(places)}: is it a checkout? Add new places to {__file__}"
        )

    @property
    def engine(self) -> tuple[Any, Any, Any]:
        """Make the engine; with it come the type of its work, and the function that makes the state of a new stream."""
        engine = self._part("service.engine.engine:Engine", "service.engine:Engine")
        work = self._part("service.engine.work:Work", "service.engine:Work")
        initial = self._part(
            "service.engine.work:initial_stream",
            "service.engine.stream:initial_stream",
            "service.stream:initial_stream",
        )
        needed = [
            one for one in inspect.signature(engine).parameters.values() if one.default is inspect.Parameter.empty
        ]
        return engine(*(20_000, 500)[: len(needed)]), work, initial

    def model(self, name: str) -> tuple[Any, ...]:
        """Give what the engine takes for a model: it alone, or with its form where a checkout has several a model."""
        model = self.catalog.get(name, None)
        initial = self.engine[2]
        return (model, model.manifest.default_form) if "form" in inspect.signature(initial).parameters else (model,)

    def chunk(self, content: Spikes | Sound) -> Any:
        """Make a chunk for the engine."""
        if isinstance(content, Spikes):
            make = self._part("service.wire.events:unpack_events", "service.packed_events:unpack_events")
            return make(self.pack_events(STEPS, content.step, content.unit))
        make = self._part("service.wire.chunk:AudioChunk", "service.chunks:AudioChunk")
        return make(content.samples.astype(np.float32) / np.float32(32_768), content.rate_hz)

    def pack_sessions(self, ids: Sequence[str]) -> bytes:
        """Pack a frame of ``/streams`` that opens sessions, with handles from 0."""
        packed: bytes = self._part("hetsyn_client.columns:pack_sessions")(list(range(len(ids))), ids)
        return packed

    def pack_chunks(self, seq: int, contents: Sequence[Spikes | Sound]) -> bytes:
        """Pack a frame of ``/streams`` with a chunk of each session."""
        lengths = [len(one.step) if isinstance(one, Spikes) else len(one.samples) for one in contents]
        spikes = [one for one in contents if isinstance(one, Spikes)]
        joined = b"".join(one.step.astype("<u2").tobytes() for one in spikes)
        joined += b"".join(one.unit.astype("<u2").tobytes() for one in spikes)
        joined += b"".join(one.samples.tobytes() for one in contents if isinstance(one, Sound))
        pack = self._part("hetsyn_client.columns:pack_chunks")
        packed: bytes = pack(list(range(len(contents))), seq, lengths, joined, STEPS if spikes else 0)
        return packed

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Callable[[], Any]]:
        """Run a server as ``hetsyn serve`` does, and give the function that makes the protocol of a connection."""
        settings = self._part("service.settings:Settings")(models=self._models)
        app = self._part("service.app:create_app", "service.api.app:create_app")(settings, self.catalog)
        server = getattr(app.state, "server", None)
        owner = server if hasattr(server, "protocol") else getattr(server, "connections", None)
        http = "httptools" if owner is None else owner.protocol
        config = uvicorn.Config(app, http=http, ws="none", access_log=False, log_level="error", lifespan="off")
        config.load()
        state = ServerState()
        state.default_headers = [(b"date", b"Sun, 29 Nov 2026 20:59:09 GMT"), (b"server", b"uvicorn")]
        lifespan = app.lifespan() if hasattr(app, "lifespan") else app.router.lifespan_context(app)
        async with lifespan:
            yield lambda: config.http_protocol_class(config=config, server_state=state, app_state={})  # type: ignore[call-arg]
