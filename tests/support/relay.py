"""A relay that cuts its connections after so many bytes."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

READ_BYTES = 4096


class Relay:
    """Relays to a port of the loopback.

    Args:
        port: of the server.
        cuts: bytes, in both directions together, after which each connection is cut; those after are not.
    """

    def __init__(self, port: int, cuts: Sequence[int]) -> None:
        self._port = port
        self._cuts = list(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0

    def run(self) -> None:
        """Relay until it is stopped, and the clients have closed their connections."""
        threads = []
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                left = self._cuts.pop(0) if self._cuts else None
                threads.append(threading.Thread(target=self._serve, args=(client, left, self.connections % 2 == 1)))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, client: socket.socket, left: int | None, resets: bool) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server, suppress(OSError):
            self._relay(client, server, left, resets)

    def _relay(self, client: socket.socket, server: socket.socket, left: int | None, resets: bool) -> None:
        other = {client: server, server: client}
        while True:
            for source in select.select([client, server], [], [])[0]:
                data = source.recv(READ_BYTES if left is None else min(left, READ_BYTES))
                if not data:
                    return
                other[source].sendall(data)
                if left is not None and not (left := left - len(data)):
                    if resets:  # else an orderly end
                        for end in (client, server):
                            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return


@contextmanager
def relayed(port: int, cuts: Sequence[int]) -> Iterator[Relay]:
    """A relay that runs in a thread."""
    relay = Relay(port, cuts)
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield relay
    finally:
        relay.stop()
        thread.join()
