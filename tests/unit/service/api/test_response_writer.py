"""What a response writes reaches the transport in order, and together if it comes together."""

from __future__ import annotations

import asyncio

import pytest

from service.api.response_writer import ResponseWriter


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.events.append(bytes(data))

    def close(self) -> None:
        self.events.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.events


@pytest.fixture
async def transport() -> FakeTransport:
    return FakeTransport()


async def test_headers_and_body_are_one_packet(transport: FakeTransport) -> None:
    writer = ResponseWriter(transport, asyncio.get_running_loop())
    writer.write(b"headers ")
    writer.write(b"body")
    assert transport.events == [b"headers body"]
    await asyncio.sleep(0)
    assert transport.events == [b"headers body"]


async def test_what_comes_alone_waits_for_one_round_of_the_event_loop(transport: FakeTransport) -> None:
    writer = ResponseWriter(transport, asyncio.get_running_loop())
    writer.write(b"headers")
    assert transport.events == []
    await asyncio.sleep(0)
    assert transport.events == [b"headers"]
    writer.write(b"a late part")
    await asyncio.sleep(0)
    assert transport.events == [b"headers", b"a late part"]


async def test_nothing_is_lost_at_the_end(transport: FakeTransport) -> None:
    writer = ResponseWriter(transport, asyncio.get_running_loop())
    writer.write(b"headers")
    writer.write(b"")  # a body without bytes
    writer.write(b"last")
    assert not writer.is_closing()
    writer.close()
    assert transport.events == [b"headers", b"last", "closed"]
    assert writer.is_closing()
