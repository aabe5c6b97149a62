"""The server's application on a real socket of the loopback, in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from service.api.application import Application
from service.app import create_app
from service.models.catalog import ModelCatalog
from service.runtime.onnx import GraphLoader, load_graph
from tests.support.artifact import write_artifact
from tests.support.fake_graph import load_fake
from tests.support.memory_store import MemoryStore
from tests.support.product import make_settings

START_TIMEOUT_S = 30.0
# sessions in memory, or committed to a store: for the tests in which the commit matters
each_store = pytest.mark.parametrize("url", ["memory", "store"], indirect=True)


def keeps(request: pytest.FixtureRequest) -> str:
    """Where the server of a fixture keeps its sessions: ``memory`` unless the test asks for a ``store``."""
    where: str = getattr(request, "param", "memory")
    return where


@contextmanager
def serving(app: Application) -> Iterator[str]:
    """The URL of a server with this application."""
    protocol = app.state.server.connections.protocol
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="on", http=protocol, ws="none"))
    started = threading.Event()
    startup = server.startup

    async def announce(*arguments: Any, **more: Any) -> None:
        await startup(*arguments, **more)
        started.set()

    server.startup = announce  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(START_TIMEOUT_S), "the server did not start"
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def running(models: Path, load: GraphLoader = load_graph, **settings: Any) -> Iterator[str]:
    """The URL of a server. At the end no session may be open.

    Args:
        models: its folder of models.
        load: makes the models' graphs.
        settings: those of ``Settings`` beside ``models``.
    """
    app = create_app(make_settings(models=models, **settings), ModelCatalog(models, load=load))
    with serving(app) as url:
        yield url
        assert app.state.server.registry.sessions.open == 0


@contextmanager
def serving_fakes(folder: Path, keeps: str) -> Iterator[str]:
    """The URL of a server of fake models, ``digits`` and ``sensor``, that takes any number of sessions of one client.

    Args:
        folder: for the models.
        keeps: sessions in ``memory`` or in a ``store``.
    """
    write_artifact(folder)
    write_artifact(folder, "sensor", takes="values")
    catalog = ModelCatalog(folder, "digits", load=load_fake)
    store = MemoryStore() if keeps == "store" else None
    with serving(create_app(make_settings(folder, client_share=1.0), catalog, store=store)) as url:
        yield url
