"""The one place where tests construct the product's large objects: a changed constructor changes this file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from service.api.infer import Application
from service.app import create_app
from service.carried.keys import CarryKeys
from service.models.catalog import ModelCatalog
from service.observe.clock import Clock
from service.registry.registry import SessionRegistry
from service.settings import Settings
from service.store.base import StateStore

UNUSED = Path("unused")


def make_settings(models: Path = UNUSED, **limits: Any) -> Settings:
    return Settings(models=models, **limits)


def make_registry(
    catalog: ModelCatalog,
    clock: Clock,
    wall: Clock,
    *,
    store: StateStore | None = None,
    keys: CarryKeys | None = None,
    **limits: Any,
) -> SessionRegistry:
    return SessionRegistry(make_settings(**limits), catalog, clock, store, wall, keys)


def make_app(
    catalog: ModelCatalog,
    *,
    models: Path = UNUSED,
    clock: Clock = time.monotonic,
    wall: Clock = time.time,
    store: StateStore | None = None,
    keys: CarryKeys | None = None,
    **limits: Any,
) -> Application:
    return create_app(make_settings(models, **limits), catalog, clock, store=store, wall=wall, keys=keys)
