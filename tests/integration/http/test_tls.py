"""Connections over TLS, on real sockets of the loopback."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from service.commands.tls import Certificate
from tests.support.artifacts.gate import Gate
from tests.support.clients.live import BINARY, EVENTS, Socket, handshake, said, sent
from tests.support.servers.certificate import write_certificate
from tests.support.servers.socket_server import LATER_S, LIVE, listening, response


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server and of its client."""
    certificate, key = write_certificate(tmp_path_factory.mktemp("tls"))
    return Certificate(certificate, key).context, ssl.create_default_context(cafile=certificate)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x00\xa5\x01\x00"])
async def test_a_handshake_of_tls_has_the_limits_of_headers(
    models: Path, gate: Gate, ends: tuple[ssl.SSLContext, ssl.SSLContext], sent: bytes
) -> None:
    async with listening(models, gate, tls=ends[0], header_timeout_s=LATER_S, max_connections=3) as server:
        silent = [await server.connect() for _ in range(3)]
        for _, writer in silent:
            writer.write(sent)
        await server.until(lambda: server.open == 3)
        reader, writer = await server.connect(tls=ends[1])
        writer.write(LIVE)
        assert (await response(reader))[0] == 200
        assert server.ended == {"displaced": 1}
        for reader, _ in silent:
            assert await reader.read() == b""
        assert server.ended == {"displaced": 1, "headers": 2}


@pytest.mark.parametrize("sent", [LIVE, b"\x16\x03\x01\x00\xa5"])
async def test_a_client_without_tls_is_disconnected(
    models: Path, gate: Gate, ends: tuple[ssl.SSLContext, ssl.SSLContext], sent: bytes
) -> None:
    async with listening(models, gate, tls=ends[0]) as server:
        reader, writer = await server.connect()
        writer.write(sent)
        writer.write_eof()
        await reader.read()
        await server.until(lambda: server.open == 0)


async def test_a_stream_over_tls_ends_with_its_last_frames(
    models: Path, gate: Gate, ends: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async with listening(models, gate, tls=ends[0]) as server:
        ending = Socket(*await server.connect(tls=ends[1]))
        await ending.open(EVENTS)
        await ending.send(said("CloseStream"))
        assert (await ending.frame())["type"] == "Termination"
        assert await ending.closed() == 1000
        wrong = Socket(*await server.connect(tls=ends[1]))
        await wrong.open(EVENTS)
        await wrong.send(sent(BINARY, b"no events") * 9)
        assert await wrong.refused() == ("bad-input", 4422)
        await server.until(lambda: server.open == 0)


async def test_a_refused_handshake_over_tls_ends_its_connection(
    models: Path, gate: Gate, ends: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async with listening(models, gate, tls=ends[0]) as server:
        reader, writer = await server.connect(tls=ends[1])
        writer.write(handshake(f"{EVENTS}&model=none"))
        assert (await response(reader))[0] == 404
        assert await reader.read() == b""
        await server.until(lambda: server.open == 0)
