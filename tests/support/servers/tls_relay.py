"""A relay with TLS in front of a server, as a gateway has it. It keeps the head of each connection's first request."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path


@contextmanager
def relayed_with_tls(port: int, certificate: Path, key: Path) -> Iterator[tuple[str, list[str]]]:
    """The URL of a relay that runs in a thread, and the heads of requests.

    Args:
        port: of the server, on the loopback.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    heads: list[str] = []
    serving: set[asyncio.Task[None] | None] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            heads.append(head.decode())
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
            with closing(server_writer):
                server_writer.write(head)
                pumps = [asyncio.ensure_future(pump(reader, server_writer))]
                pumps.append(asyncio.ensure_future(pump(server_reader, writer)))
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in pumps:
                        task.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)

    async def serve_and_hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve, with a reference to it: the loop holds none, so a collection in another thread could end it."""
        task = asyncio.current_task()
        serving.add(task)
        try:
            await serve(reader, writer)
        finally:
            serving.discard(task)

    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(serve_and_hold, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}", heads
    finally:

        async def stop() -> None:
            listening.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
