"""Loads the models of a catalog from its folder: when a server starts, and when the folder changes while requests run.

    in the folder                                 outcome
    -------------------------------------------   --------------------------------------------------------------
    a new version                                 verified, loaded and smoke-tested (while the server runs, first in
                                                  a process of its own) on a thread, then offered
    a version that cannot be read, loaded or run  refused
    a version that takes longer than it may       refused; what cannot be ended is left behind on its thread
    a version's folder is gone                    retired: its sessions go on, new ones do not begin on it
    a version's folder has other content          refused: the old content stays offered
    no models, or no folder                       the whole reload is refused

A refusal is logged and counted and changes nothing: the models that were offered before stay offered. A server starts
in the same way, with the models that can be used; it does not start if none can, or if the default model cannot. A
version has one content for the life of a process, even if it was retired in between, because sessions and their records
name a model by its version.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path

from service.contract.artifact import Artifact
from service.contract.folder import DEFAULT, default_of_folder, find_artifacts, no_models_error
from service.contract.manifest import content_hash
from service.errors import ArtifactError, HetsynError
from service.models.catalog import CatalogSnapshot, ModelCatalog, group_by_name, model_key
from service.models.model import Model
from service.observe.counters import Counters
from service.reload.time_limit import TimeLimit, start_thread
from service.reload.trial_process import TrialProcess
from service.settings import Settings

log = logging.getLogger("hetsyn.models")

SmokeTest = Callable[[Model], None]
Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Refused:
    """A part of the folder that a reload refuses. ``reason`` is a sentence for the operator."""

    where: Path
    reason: str


@dataclass(frozen=True)
class ReloadPlan:
    """The changes that a reload makes.

    Attributes:
        snapshot: the models to offer.
        refused: parts of the folder that change nothing.
    """

    snapshot: CatalogSnapshot
    opened: tuple[Model, ...] = ()
    retired: tuple[Model, ...] = ()
    refused: tuple[Refused, ...] = ()


def plan_reload(
    catalog: ModelCatalog,
    smoke_test: SmokeTest,
    limit: TimeLimit | None = None,
    trial_process: TrialProcess | None = None,
) -> ReloadPlan:
    """Read a catalog's folder, and open and test its new versions. Changes nothing; may take long.

    Args:
        smoke_test: raises if a model cannot be run.
        limit: bounds the time of each version; None is that of the settings.
        trial_process: opens and tests each version first; None skips that.
    """
    try:
        return _plan_reload(catalog, smoke_test, limit or TimeLimit(Settings.load_timeout_s), trial_process)
    finally:
        if trial_process is not None:
            trial_process.stop()


def _plan_reload(
    catalog: ModelCatalog, smoke_test: SmokeTest, limit: TimeLimit, trial_process: TrialProcess | None
) -> ReloadPlan:
    before = catalog.snapshot
    try:
        paths = limit.run(catalog.folder, lambda: find_artifacts(catalog.folder))
        if not paths:
            raise no_models_error(catalog.folder)
    except (HetsynError, OSError) as error:
        return ReloadPlan(before, refused=(Refused(catalog.folder, str(error)),))
    models, opened, refused = [], [], []
    for path in paths:
        known = catalog.find(path.parent.name, path.name)
        is_offered = path.name in before.models.get(path.parent.name, {})
        try:
            trial = _Trial(catalog, path, known, smoke_test, trial_process)
            model = limit.run(path, trial.run, trial.stop)
        except Exception as error:  # a damaged graph may raise anything
            refused.append(Refused(path, _sentence(path, error)))
            if known is None or not is_offered:
                continue
            model = known
        models.append(model)
        if not is_offered:
            opened.append(model)
    if not models:
        return ReloadPlan(before, refused=tuple(refused))
    by_name = group_by_name(models)
    offered = {model_key(model) for model in models}
    retired = [model for key, model in before.by_key().items() if key not in offered]
    default_name = before.default_name if before.default_name in by_name else None
    try:
        default_name = limit.run(catalog.folder / DEFAULT, lambda: default_of_folder(catalog.folder, list(by_name)))
    except HetsynError as error:
        refused.append(Refused(catalog.folder / DEFAULT, str(error)))
    return ReloadPlan(CatalogSnapshot(by_name, default_name), tuple(opened), tuple(retired), tuple(refused))


class Reloader:
    """Reloads a catalog when its folder changes. Used from one event loop.

    Args:
        smoke_test: raises if a model cannot be run.
        watch_s: interval at which the folder is checked; 0 never checks it.
        load_timeout_s: time limit for each version.
        trial_process: opens and tests each version of a reload first; None skips that.
    """

    def __init__(
        self,
        catalog: ModelCatalog,
        smoke_test: SmokeTest,
        counters: Counters,
        watch_s: float = Settings.watch_s,
        load_timeout_s: float = Settings.load_timeout_s,
        trial_process: TrialProcess | None = None,
    ) -> None:
        self._trial_process = trial_process
        self._limit = TimeLimit(load_timeout_s)
        self._catalog = catalog
        self._smoke_test = smoke_test
        self._counters = counters
        self._watch_s = watch_s
        self._loaded: Signature | None = None  # None: the folder may have changed since the catalog was opened
        self._is_readable = True

    async def run_forever(self) -> None:
        """Reload when the folder changes, until cancelled. Loads nothing afterwards."""
        try:
            await self._run_forever()
        finally:
            self._limit.close()

    async def _run_forever(self) -> None:
        previous = self._loaded
        while True:
            await self._wait()
            current = await self._signature()
            # a folder is reloaded when it has stopped changing: files may still be copied into it
            if current is not None and current == previous != self._loaded:
                self._loaded = current
                try:
                    await self.reload()
                except Exception as error:
                    log.error("the models could not be reloaded", exc_info=error)
            previous = current

    def load(self) -> None:
        """Open and test the models of a catalog that offers none yet.

        Raises:
            ArtifactError: the folder has no model that can be used, or its default model cannot be used.
        """
        folder = self._catalog.folder
        self._loaded = self._limit.run(folder, partial(signature, folder))
        # not in a process of its own: that would double the time of a start, in which nobody's sessions are at stake
        plan = plan_reload(self._catalog, self._smoke_test, self._limit)
        if not plan.snapshot.models:
            raise ArtifactError("; ".join(refused.reason for refused in plan.refused))
        self._refuse(plan.refused)
        default_of_folder(folder, plan.snapshot.names)
        self._catalog.publish(plan.snapshot)

    async def reload(self) -> ReloadPlan:
        """Open and test the folder's new versions on a thread, then offer the folder's models. One call at a time."""
        work = partial(plan_reload, self._catalog, self._smoke_test, self._limit, self._trial_process)
        plan = await asyncio.wrap_future(start_thread(work))
        self._publish(plan)
        return plan

    def _publish(self, plan: ReloadPlan) -> None:
        self._catalog.publish(plan.snapshot)
        self._counters.model_reloads += 1
        self._counters.models_opened += len(plan.opened)
        self._counters.models_retired += len(plan.retired)
        for model in plan.opened:
            log.info("model %r version %r is offered", model.name, model.version)
        for model in plan.retired:
            log.info("model %r version %r is retired: its sessions continue", model.name, model.version)
        self._refuse(plan.refused)
        log.info(
            "models reloaded: %d opened, %d retired, %d refused; versions offered: %d",
            len(plan.opened),
            len(plan.retired),
            len(plan.refused),
            plan.snapshot.count,
        )

    def _refuse(self, parts: tuple[Refused, ...]) -> None:
        self._counters.models_refused += len(parts)
        for refused in parts:
            log.error("refused: %s", refused.reason)

    async def _signature(self) -> Signature | None:
        """Return the folder's signature; None if the folder cannot be read."""
        try:
            # on a thread of its own: nothing else waits for a disk that does not answer
            found = await asyncio.wrap_future(start_thread(partial(signature, self._catalog.folder)))
            self._is_readable = True
            return found
        except Exception as error:
            if self._is_readable:
                log.error("the folder of models cannot be checked for changes", exc_info=error)
            self._is_readable = False
            return None

    async def _wait(self) -> None:
        """Wait for the next check of the folder."""
        await asyncio.sleep(self._watch_s or inf)


def signature(folder: Path) -> Signature:
    """Return a value of the names, sizes and times of a folder's files. It changes whenever a file does."""
    files = []
    for path in (folder / DEFAULT, *folder.glob("*/*/*")):
        try:
            stat = path.stat()
        except OSError:  # removed since it was listed
            continue
        files.append((str(path), stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(files))


class _Trial:
    """Finds the model of a version's folder. A new version is opened and tested.

    Args:
        known: the version's model, if it is in memory.
    """

    def __init__(
        self,
        catalog: ModelCatalog,
        path: Path,
        known: Model | None,
        smoke_test: SmokeTest,
        trial_process: TrialProcess | None,
    ) -> None:
        self._trial_process = trial_process
        self._catalog = catalog
        self._path = path
        self._known = known
        self._smoke_test = smoke_test
        self._opened: Model | None = None
        self._is_stopped = False

    def run(self) -> Model:
        """Return the model.

        Raises:
            ArtifactError: the folder's content cannot be used, or differs from what was offered as this version.
        """
        content = content_hash(Artifact.describe(self._path).manifest)
        offered = self._catalog.content_of(self._path.parent.name, self._path.name)
        if offered is not None and content != offered:
            raise ArtifactError(
                f"{self._path}: the files of this version have changed: export them as a new version, "
                "or restart the server to load them"
            )
        if self._known is not None:
            return self._known
        if self._trial_process is not None:
            self._trial_process.check(self._path)
        self._opened = model = self._catalog.open(self._path)
        if self._is_stopped:
            raise ArtifactError(f"{self._path}: took too long to load")
        if content_hash(model.manifest) != content:
            raise ArtifactError(f"{self._path}: changed while it was loaded: the next reload tries it again")
        self._smoke_test(model)
        return model

    def stop(self) -> None:
        """End the test, from another thread. Does not end the loading."""
        self._is_stopped = True
        if self._trial_process is not None:
            self._trial_process.stop()
        if self._opened is not None:
            self._opened.stop()


def _sentence(path: Path, error: Exception) -> str:
    if isinstance(error, HetsynError):
        return str(error)
    reason = f"{type(error).__name__}: {error!s:.500}"
    return f"{path}: cannot be used ({reason}): export the model again with a matching hetsyn"
