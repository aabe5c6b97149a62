from __future__ import annotations

from collections.abc import Generator
from typing import Any

import aiohttp
import pytest

from hetsyn_client.access import Access
from hetsyn_client.async_transport import AsyncTransport
from hetsyn_client.steps import Broken, ReadFrame, SendFrame


class GoneSocket:
    """One whose server has gone. aiohttp answers a ping while it reads, so reading fails as sending does."""

    async def receive(self, _: float) -> Any:
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")

    async def send_bytes(self, _: bytes) -> None:
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")


@pytest.mark.parametrize("step", [ReadFrame(GoneSocket()), SendFrame(GoneSocket(), b"")], ids=["read", "send"])
async def test_a_server_that_has_gone_is_a_broken_connection(step: ReadFrame | SendFrame) -> None:
    def steps() -> Generator[Any, Any, str]:
        try:
            yield step
        except Broken as error:
            return str(error)
        return ""

    transport = AsyncTransport(Access("http://127.0.0.1:1", {}), timeout_s=1.0)
    assert await transport.run(steps()) == "Cannot write to closing transport"
