"""Settings by the names of their fields, whichever group they are in."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from service.settings import Batching, Limits, Retention, Settings, StoreSettings

_GROUPS = {"limits": Limits, "retention": Retention, "batching": Batching}


def make_settings(models: Path = Path("unused"), **values: Any) -> Settings:
    """Settings with these values; ``store`` is the URL, and ``store_timeout_s`` and ``store_dtype`` go with it."""
    store = {"url": values.pop("store", "memory://")}
    for name in ("timeout_s", "dtype"):
        if f"store_{name}" in values:
            store[name] = values.pop(f"store_{name}")
    groups = {}
    for group, kind in _GROUPS.items():
        names = {field.name for field in fields(kind)}
        groups[group] = kind(**{name: values.pop(name) for name in list(values) if name in names})
    return Settings(models=models, store=StoreSettings(**store), **groups, **values)
