"""The signals of a server process: which reload, which end it, and how ``hetsyn reload`` sends one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import uvicorn
from typer.testing import CliRunner

from service.commands import reload as reload_command
from service.errors import HetsynError
from service.models.catalog import ModelCatalog
from service.shutdown import GracefulServer
from tests.support.artifacts.fake_graph import load_fake
from tests.support.paths import ROOT
from tests.support.product import make_app

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP: only POSIX has it")


@pytest.fixture(autouse=True)
def terminal_ends_processes() -> Iterator[None]:
    """SIGHUP has its default handler, although the tests may run under ``nohup``."""
    outside = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, outside)


@contextmanager
def untouched(*numbers: signal.Signals) -> Iterator[None]:
    """Signals have the same handlers after the context as before it."""
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@asynccontextmanager
async def serving(models: Path, reload: Callable[[], None], has_terminal: bool) -> AsyncIterator[GracefulServer]:
    app = make_app(ModelCatalog(models, load=load_fake))
    config = uvicorn.Config(app, port=0, log_level="error")
    server = GracefulServer(config, app.state.server.admission, 60.0, reload, has_terminal=has_terminal)
    with untouched(signal.SIGHUP, signal.SIGUSR1):
        running = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        yield server
        server.should_exit = True
        await running


@pytest.mark.parametrize(
    ("number", "has_terminal"),
    [(signal.SIGUSR1, True), (signal.SIGUSR1, False), (signal.SIGHUP, False)],
    ids=["USR1, terminal", "USR1", "HUP"],
)
async def test_a_signal_asks_for_a_reload_and_nothing_else(
    models: Path, number: signal.Signals, has_terminal: bool
) -> None:
    reloads: list[int] = []
    async with serving(models, lambda: reloads.append(1), has_terminal) as server:
        os.kill(os.getpid(), number)
        while not reloads:
            await asyncio.sleep(0.01)
        assert not server.should_exit


async def test_a_server_ends_without_waiting_for_balancers_when_its_terminal_closes(models: Path) -> None:
    reloads: list[int] = []
    ended = signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again after the shutdown
    try:
        async with serving(models, lambda: reloads.append(1), has_terminal=True) as server:
            os.kill(os.getpid(), signal.SIGHUP)
            while not server.should_exit:
                await asyncio.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, ended)
    assert not reloads


async def test_nohup_keeps_a_server_after_its_terminal(models: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with serving(models, lambda: None, has_terminal=True) as server:
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert not server.should_exit
    finally:
        signal.signal(signal.SIGHUP, before)


def reload(pid: int) -> tuple[int, str]:
    """Exit code and message of ``hetsyn reload``."""
    done = CliRunner().invoke(reload_command.reload, [str(pid)])
    return done.exit_code, str(done.exception) if isinstance(done.exception, HetsynError) else done.output


def test_reload_sends_the_signal_to_a_server() -> None:
    code = (
        "import signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "print('ready', flush=True)\n"
        "print(signal.sigwait([signal.SIGUSR1]).name)"
    )
    with subprocess.Popen([sys.executable, "-c", code, "hetsyn", "serve"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        assert reload(server.pid) == (0, f"process {server.pid} reloads its models: its log says what changed\n")
        assert server.stdout.readline() == "SIGUSR1\n"


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc: only Linux has it")
def test_reload_sends_nothing_to_another_program() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", "serve"], stdin=subprocess.PIPE) as other:
        code, message = reload(other.pid)
        assert (code, other.poll()) == (1, None)
        assert f"process {other.pid} is not hetsyn serve" in message
    assert f"there is no process {other.pid}" in reload(other.pid)[1]


@pytest.mark.parametrize(
    ("arguments", "is_blocked"),
    [(["/x/hetsyn", "serve", "--port", "0"], True), (["/x/hetsyn", "bench"], False), (["/x/theirs", "serve"], False)],
)
def test_a_reload_waits_from_the_first_import_on(arguments: list[str], is_blocked: bool) -> None:
    program = (
        f"import signal, sys; sys.argv = {arguments!r}; import hetsyn; "
        "print({signal.SIGUSR1, signal.SIGHUP} <= signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == str(is_blocked)
