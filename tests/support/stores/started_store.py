"""A store from its start to its close."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from service.store.base import StateStore

S = TypeVar("S", bound=StateStore)


class StartStore(Protocol):
    """Starts stores that are closed after the test."""

    async def __call__(self, store: S) -> S: ...


@asynccontextmanager
async def started(store: S) -> AsyncIterator[S]:
    try:
        await store.start()
        yield store
    finally:
        await store.close()
