"""When a server looks at its folder of models, and what it says of a reload."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.observe.counters import Counters
from service.reload.reload import Reloader, Signature
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.smoke_tested import smoke_tested


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "hetsyn.models"):
        yield caplog


async def test_a_reload_is_counted_and_logged(
    models: Path, catalog: ModelCatalog, logged: pytest.LogCaptureFixture
) -> None:
    counters = Counters()
    write_artifact(models, version="2")
    (write_artifact(models, version="3") / "exact.pt").unlink()
    shutil.rmtree(models / "digits" / "1")
    await Reloader(catalog, smoke_tested, counters).reload()
    counted = (counters.model_reloads, counters.models_opened, counters.models_retired, counters.models_refused)
    assert counted == (1, 1, 1, 1)
    assert "model 'digits' version '2' is offered" in logged.text
    assert "model 'digits' version '1' is retired" in logged.text
    assert "exact.pt" in logged.text


class SteppedReloader(Reloader):
    """Looks at its folder at each ``check``, not at intervals."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.waits = asyncio.Event()
        self._check = asyncio.Semaphore(0)

    async def check(self, times: int = 1) -> None:
        """Until it has looked at its folder, and done what it makes of it."""
        for _ in range(times):
            await self.waits.wait()
            self.waits.clear()
            self._check.release()
            await self.waits.wait()

    async def _wait(self) -> None:
        self.waits.set()
        await self._check.acquire()


class RunningReloader:
    """``run_forever`` of a reloader in a loop, and waiting for what it does."""

    def __init__(self, catalog: ModelCatalog, smoke_test: Any, load_timeout_s: float) -> None:
        self.counters = Counters()
        self.reloader = SteppedReloader(catalog, smoke_test, self.counters, load_timeout_s=load_timeout_s)
        self._task = asyncio.create_task(self.reloader.run_forever())

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


StartReloader = Callable[..., RunningReloader]


@pytest.fixture
async def start_reloader(catalog: ModelCatalog) -> AsyncIterator[StartReloader]:
    """Starts a reloader of the catalog; all are ended after the test."""
    all_started: list[RunningReloader] = []

    def started(smoke_test: Any = smoke_tested, load_timeout_s: float = 60.0) -> RunningReloader:
        all_started.append(RunningReloader(catalog, smoke_test, load_timeout_s))
        return all_started[-1]

    yield started
    for running in all_started:
        await running.end()


async def test_a_watched_folder_is_reloaded_once_it_rests(
    models: Path, catalog: ModelCatalog, start_reloader: StartReloader
) -> None:
    running = start_reloader()
    counters, reloader = running.counters, running.reloader
    await reloader.check(2)
    assert counters.model_reloads == 1  # what changed since the catalog was opened
    folder = write_artifact(models, version="2")
    hidden = folder.rename(models / "hidden")
    (models / "digits" / "2").mkdir()
    for path in sorted(hidden.iterdir()):  # copied in slowly, the manifest among the first
        shutil.copy(path, models / "digits" / "2" / path.name)
        await reloader.check()
        assert counters.model_reloads == 1
    await reloader.check()
    assert counters.model_reloads == 2
    assert catalog.get("digits").version == "2"
    await reloader.check(3)
    assert counters.model_reloads == 2  # nothing has changed


async def test_a_folder_that_cannot_be_looked_at_does_not_end_it(
    models: Path,
    catalog: ModelCatalog,
    monkeypatch: pytest.MonkeyPatch,
    logged: pytest.LogCaptureFixture,
    start_reloader: StartReloader,
) -> None:
    running = start_reloader()

    def stale(_: Path) -> Signature:
        raise OSError("stale file handle")

    await running.reloader.check(2)
    monkeypatch.setattr("service.reload.reload.signature", stale)
    write_artifact(models, version="2")
    await running.reloader.check()
    assert "stale file handle" in logged.text
    monkeypatch.undo()
    await running.reloader.check(2)
    assert catalog.get("digits").version == "2"


async def test_the_event_loop_is_free_while_a_model_loads(
    models: Path, catalog: ModelCatalog, start_reloader: StartReloader
) -> None:
    opened, entered = threading.Event(), threading.Event()

    def slowly(model: Model) -> None:
        entered.set()
        assert opened.wait(timeout=60)
        smoke_tested(model)

    running = start_reloader(slowly)
    write_artifact(models, version="2")
    reloading = asyncio.create_task(running.reloader.check(2))
    assert await asyncio.to_thread(entered.wait, 60)
    assert catalog.get("digits").version == "1"
    opened.set()
    await reloading
    assert catalog.get("digits").version == "2"


async def test_a_model_that_does_not_end_stops_no_later_reload(
    models: Path, catalog: ModelCatalog, logged: pytest.LogCaptureFixture, start_reloader: StartReloader
) -> None:
    never, entered = threading.Event(), threading.Event()

    def hangs(model: Model) -> None:
        if model.version == "2":
            entered.set()
            assert never.wait(timeout=60)
        smoke_tested(model)

    running = start_reloader(hangs, load_timeout_s=2.0)
    write_artifact(models, version="2")
    reloading = asyncio.create_task(running.reloader.check(2))
    assert await asyncio.to_thread(entered.wait, 60)
    write_artifact(models, version="3")
    await reloading
    await running.reloader.check(2)
    assert catalog.versions("digits") == ["1", "3"]
    assert "digits/2: was not loaded and tested within 2 s" in logged.text
    assert "digits/2: is still being loaded since an earlier attempt" in logged.text
    never.set()


async def test_the_end_of_a_server_does_not_wait_for_a_model(
    models: Path, monkeypatch: pytest.MonkeyPatch, start_reloader: StartReloader
) -> None:
    never, entered, stopped = threading.Event(), threading.Event(), threading.Event()

    def stop(_: Model) -> None:
        stopped.set()
        never.set()

    monkeypatch.setattr(Model, "stop", stop)

    def hangs(_: Model) -> None:
        entered.set()
        assert never.wait(timeout=60)

    running = start_reloader(hangs)
    write_artifact(models, version="2")
    reloading = asyncio.create_task(running.reloader.check(2))
    assert await asyncio.to_thread(entered.wait, 60)
    await running.end()
    reloading.cancel()
    assert stopped.is_set()
    assert running.counters.model_reloads == 0


async def test_a_defect_does_not_end_it(
    models: Path, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture, start_reloader: StartReloader
) -> None:
    running = start_reloader()
    monkeypatch.setattr("service.reload.reload.find_artifacts", lambda _: 1 / 0)
    await running.reloader.check(2)
    assert "could not be reloaded" in logged.text
    monkeypatch.undo()
    write_artifact(models, version="2")
    await running.reloader.check(2)
    assert running.counters.model_reloads == 1
