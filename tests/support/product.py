"""The one place where tests construct the product's large objects: a changed constructor changes this file."""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from service.app import Server, build_server, create_app
from service.carried.carry_keys import CarryKeys
from service.clock import Clock
from service.models.catalog import ModelCatalog
from service.settings import Batching, Limits, Retention, Settings, StoreSettings
from service.store.base import StateStore

UNUSED = Path("unused")
CARRY_KEYS = CarryKeys([bytes(range(32))])
_GROUPS = {"limits": Limits, "retention": Retention, "batching": Batching}


def make_settings(models: Path = UNUSED, **values: Any) -> Settings:
    """Settings by the names of their fields, whichever group they are in.

    ``store`` is the URL, and ``store_timeout_s`` goes with it.
    """
    store = {"url": values.pop("store", "memory://")}
    if "store_timeout_s" in values:
        store["timeout_s"] = values.pop("store_timeout_s")
    groups = {}
    for group, kind in _GROUPS.items():
        names = {field.name for field in fields(kind)}
        groups[group] = kind(**{name: values.pop(name) for name in list(values) if name in names})
    # a folder that a test changes is read when the test says so
    return Settings(models=models, store=StoreSettings(**store), **groups, **{"watch_s": 0.0, **values})


def make_server(
    catalog: ModelCatalog,
    clock: Clock = time.monotonic,
    wall: Clock = time.time,
    *,
    store: StateStore | None = None,
    keys: CarryKeys | None = CARRY_KEYS,
    **limits: Any,
) -> Server:
    return build_server(make_settings(**limits), catalog, clock, store=store, wall=wall, keys=keys)


def make_app(
    catalog: ModelCatalog,
    *,
    models: Path = UNUSED,
    clock: Clock = time.monotonic,
    wall: Clock = time.time,
    store: StateStore | None = None,
    keys: CarryKeys | None = CARRY_KEYS,
    **limits: Any,
) -> FastAPI:
    return create_app(make_settings(models, **limits), catalog, clock, store=store, wall=wall, keys=keys)
