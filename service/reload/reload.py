"""Keeps a catalog in step with its folder while requests run.

    folder                                        what becomes of it
    -------------------------------------------   --------------------------------------------------------------
    a version that is new                         verified, loaded and smoke-tested on a thread, then offered
    one that cannot be read, loaded or run        refused
    a folder that is gone                         retired: its sessions go on, new ones do not begin on it
    a version's folder with other content         refused: the content that was offered is offered further
    no models at all, or no folder                the whole reload is refused

What is refused is logged and counted and changes nothing: what was offered before is offered further. A version is
one content for as long as a process lives, even if it was withdrawn in between, because sessions and their records
name it by version.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.contract.artifact import Artifact
from service.contract.manifest import content_hash
from service.errors import ArtifactError, HetsynError
from service.models.catalog import CatalogSnapshot, ModelCatalog
from service.models.folder import DEFAULT, find_artifacts, folders_default, key, no_models, ordered
from service.models.model import Model
from service.observe.counters import Counters

log = logging.getLogger("hetsyn.models")

SmokeTest = Callable[[Model], None]
Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Refused:
    """A part of the folder that is not offered.

    Attributes:
        where: the part.
        reason: a sentence.
    """

    where: Path
    reason: str


@dataclass(frozen=True)
class ReloadPlan:
    """What a reload would change.

    Attributes:
        snapshot: to be offered.
        opened: versions that come with it.
        retired: versions that go.
        refused: what is left as it was.
    """

    snapshot: CatalogSnapshot
    opened: tuple[Model, ...] = ()
    retired: tuple[Model, ...] = ()
    refused: tuple[Refused, ...] = ()


def plan_reload(catalog: ModelCatalog, smoke_test: SmokeTest) -> ReloadPlan:
    """Read the catalog's folder, and open and try what is new. Changes nothing; may take long."""
    before = catalog.snapshot
    try:
        paths = find_artifacts(catalog.folder)
        if not paths:
            raise no_models(catalog.folder)
    except (HetsynError, OSError) as error:
        return ReloadPlan(before, refused=(Refused(catalog.folder, str(error)),))
    models, opened, refused = [], [], []
    for path in paths:
        known = catalog.find(path.parent.name, path.name)
        is_offered = path.name in before.models.get(path.parent.name, {})
        try:
            model = _known_or_opened(catalog, path, known, smoke_test)
        except Exception as error:  # of a graph that fails in whatever way
            refused.append(Refused(path, _sentence(error)))
            if known is None or not is_offered:
                continue
            model = known
        models.append(model)
        if not is_offered:
            opened.append(model)
    if not models:
        return ReloadPlan(before, refused=tuple(refused))
    by_name = ordered(models)
    kept = {key(model) for model in models}
    gone = [model for versions in before.models.values() for model in versions.values() if key(model) not in kept]
    default_name = before.default_name if before.default_name in by_name else None
    try:
        default_name = _default(catalog, list(by_name))
    except HetsynError as error:
        refused.append(Refused(catalog.folder / DEFAULT, str(error)))
    return ReloadPlan(CatalogSnapshot(by_name, default_name), tuple(opened), tuple(gone), tuple(refused))


class Reloader:
    """Reloads when it is asked, and when a folder that it watches has changed. Used from one event loop.

    Args:
        smoke_test: raises where a model cannot be run.
        watch_s: between two looks at the folder; 0 looks never.
    """

    def __init__(self, catalog: ModelCatalog, smoke_test: SmokeTest, counters: Counters, watch_s: float = 0.0) -> None:
        self._catalog = catalog
        self._try_model = smoke_test
        self._counters = counters
        self._watch_s = watch_s
        self._asked = asyncio.Event()
        self._reloading = asyncio.Lock()

    def ask(self) -> None:
        """Have ``run_forever`` reload soon; asked for again meanwhile, it reloads once more."""
        self._asked.set()

    async def run_forever(self) -> None:
        """Reload as asked and as seen; until cancelled."""
        offered: Signature | None = None  # what was changed since the catalog was opened is found at the first rest
        seen: Signature | None = None
        while True:
            asked = await self._wait()
            now = await self._signature() if self._watch_s else None
            # a folder that something is being copied into is left to rest first
            if asked or (now == seen and now != offered):
                offered = now
                try:
                    await self.reload()
                except Exception as error:
                    log.error("the models could not be reloaded", exc_info=error)
            seen = now

    async def reload(self) -> ReloadPlan:
        """CatalogSnapshot what the folder holds, once it has been opened and tried on a thread."""
        async with self._reloading:
            plan = await asyncio.to_thread(plan_reload, self._catalog, self._try_model)
            self._catalog.publish(plan.snapshot)
        self._counters.model_reloads += 1
        self._counters.models_opened += len(plan.opened)
        self._counters.models_retired += len(plan.retired)
        self._counters.models_refused += len(plan.refused)
        for model in plan.opened:
            log.info("model %r version %r is offered", model.name, model.version)
        for model in plan.retired:
            log.info("model %r version %r is retired: its sessions go on", model.name, model.version)
        for refused in plan.refused:
            log.error("refused, what was offered before stays: %s", refused.reason)
        return plan

    async def _signature(self) -> Signature | None:
        """None where the folder cannot be looked at."""
        try:
            return await asyncio.to_thread(signature, self._catalog.folder)
        except Exception as error:
            log.error("the folder of models could not be looked at", exc_info=error)
            return None

    async def _wait(self) -> bool:
        """Until there is something to do; whether it was asked for."""
        try:
            async with asyncio.timeout(self._watch_s or None):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True


def signature(folder: Path) -> Signature:
    """Names, sizes and times of the files of a folder of models: differs where something has changed."""
    found = []
    for path in (folder / DEFAULT, *folder.glob("*/*/*")):
        try:
            stat = path.stat()
        except OSError:  # gone since it was listed
            continue
        found.append((str(path), stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(found))


def _known_or_opened(catalog: ModelCatalog, path: Path, known: Model | None, smoke_test: SmokeTest) -> Model:
    """
    Raises:
        ArtifactError: the folder's content is not what was offered as this version, or cannot be used.
    """
    content = content_hash(Artifact.describe(path).manifest)
    served = catalog.content_of(path.parent.name, path.name)
    if served is not None and content != served:
        raise ArtifactError(
            f"{path}: holds another content than was offered as this version: export it as a version of its own, "
            "or restart the server to forget the old one"
        )
    if known is not None:
        return known
    model = catalog.open(path)
    smoke_test(model)
    return model


def _default(catalog: ModelCatalog, names: list[str]) -> str | None:
    """
    Raises:
        ArtifactError: the model that requests mean which name none is not there.
    """
    named = catalog.default_model
    if named is None:
        return folders_default(catalog.folder, names)
    if named not in names:
        raise ArtifactError(f"the default model {named!r} is not in {catalog.folder}: requests have to name one")
    return named


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, HetsynError) else f"{type(error).__name__}: {error}"
