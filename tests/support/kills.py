"""A numbered stream through kills of its server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from hetsyn_client import HetsynError, StreamingClient
from tests.support.server_process import RestartableServer

SendChunk = Callable[[StreamingClient, int], Any]


def through_kills(folder: Path, count: int, kills: Collection[int], send: SendChunk) -> list[Any]:
    """The replies to the chunks of a session, in order.

    Args:
        folder: has the models in ``models``, and gets the store.
        count: of the chunks.
        kills: numbers of the chunks that are under way when the server is killed: each may be applied, or not. The
            server then starts again, and the chunk is sent again.
        send: sends a chunk by its number.
    """
    # the last of two options counts
    options = "--models", str(folder / "models"), "--store", f"file://{folder}/sessions.db"
    server = RestartableServer(*options, "--log-level", "warning")

    def send_and_forget(seq: int) -> None:
        with suppress(HetsynError), StreamingClient(server.url, repeats=0) as client:
            send(client, seq)

    replies = []
    try:
        server.ready()
        for seq in range(count):
            if seq in kills:
                under_way = threading.Thread(target=send_and_forget, args=(seq,))
                under_way.start()
                server.kill()
                under_way.join()
                server.restart()
            with StreamingClient(server.url) as client:
                replies.append(send(client, seq))
    finally:
        server.kill()
    return replies
