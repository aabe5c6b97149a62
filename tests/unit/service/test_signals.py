"""SIGHUP to a server process: its terminal was closed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from service.models.catalog import ModelCatalog
from service.shutdown import GracefulServer
from tests.support.artifacts.fake_graph import load_fake
from tests.support.product import make_app

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP: only POSIX has it")


@pytest.fixture(autouse=True)
def terminal_ends_processes() -> Iterator[None]:
    """SIGHUP has its default handler, although the tests may run under ``nohup``."""
    outside = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, outside)


@asynccontextmanager
async def serving(models: Path) -> AsyncIterator[GracefulServer]:
    app = make_app(ModelCatalog(models, load=load_fake))
    config = uvicorn.Config(app, port=0, log_level="error")
    server = GracefulServer(config, app.state.server.admission, 60.0)
    before = signal.getsignal(signal.SIGHUP)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server
    server.should_exit = True
    await running
    assert signal.getsignal(signal.SIGHUP) == before


async def test_a_server_ends_without_waiting_for_balancers_when_its_terminal_closes(models: Path) -> None:
    ended = signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again after the shutdown
    try:
        async with serving(models) as server:
            os.kill(os.getpid(), signal.SIGHUP)
            while not server.should_exit:
                await asyncio.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, ended)


async def test_nohup_keeps_a_server_after_its_terminal(models: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    async with serving(models) as server:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert not server.should_exit
