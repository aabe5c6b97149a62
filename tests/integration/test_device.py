"""A server whose sessions' states are on a device, through HTTP: the device is a fake, all else is not."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.models.catalog import ModelCatalog
from service.runtime import device_memory
from tests.support.fake_device import FakeDevice
from tests.support.fake_graph import OUTPUTS, load_fake
from tests.support.json_input import events
from tests.support.product import make_app

ROW_BYTES = 8 * OUTPUTS


@asynccontextmanager
async def served(models: Path, device: FakeDevice | None) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(ModelCatalog(models, load=load_fake, device=device))
    async with (
        app.lifespan(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client,
    ):
        yield client


async def test_many_sessions_at_once_are_answered_as_from_the_host(models: Path) -> None:
    replies: list[list[dict[str, Any]]] = []
    device = FakeDevice()
    for where in (device, None):
        got: list[dict[str, Any]] = []
        async with served(models, where) as client:
            for number in range(4):
                requests = [{"session": f"s{who}", "seq": number, "input": events(9 + who, who)} for who in range(8)]
                answers = await asyncio.gather(*(client.post("/infer", json=body) for body in requests))
                got += [answer.json() for answer in answers]
        replies.append(got)
    assert all(reply["probabilities"] for reply in replies[0])
    assert replies[0] == replies[1]
    assert device.uploads == 1  # the first state of all


async def test_a_full_device_answers_503_until_sessions_end(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "BLOCK_BYTES", 4 * ROW_BYTES)
    monkeypatch.setattr(device_memory, "MIN_BLOCK_SLOTS", 4)
    # one block, and what a batch works in: the first state of all, two sessions and the next state of one
    device = FakeDevice(capacity=4 * ROW_BYTES + 3 * ROW_BYTES)
    async with served(models, device) as client:

        async def post(session: str, status: int) -> httpx.Response:
            response = await client.post("/infer", json={"session": session, "input": events(5, 0)})
            assert response.status_code == status, response.text
            gc.collect()
            return response

        await post("a", 200)
        await post("b", 200)
        before = (await post("a", 200)).json()
        await post("c", 200)
        refused = await post("a", 503)
        assert "the memory of a fake GPU is full" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await client.delete("/sessions/c")).status_code < 300
        after = (await post("a", 200)).json()
        assert (after["seq"], after["total_steps"]) == (before["seq"] + 1, before["total_steps"] + 5)
