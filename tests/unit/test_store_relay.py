"""The relay leaves no socket open, whenever it cuts or ends."""

from __future__ import annotations

import gc
import socket
import warnings

from tests.support.server_process import free_port
from tests.support.store_relay import HOST, Relay

CONNECTIONS = 12
CUT_EVERY = 5


def test_connections_that_are_being_made_are_closed_too() -> None:
    with warnings.catch_warnings(record=True) as warned, socket.create_server((HOST, 0)) as target:
        warnings.simplefilter("always")
        relay = Relay(free_port(), target.getsockname()[1])
        relay.start()
        clients = [socket.socket() for _ in range(CONNECTIONS)]
        for n, client in enumerate(clients):
            client.setblocking(False)
            client.connect_ex((HOST, relay.port))
            if n % CUT_EVERY == 0:
                relay.cut()
        relay.close()
        for client in clients:
            client.close()
        del relay
        gc.collect()
    assert [str(warning.message) for warning in warned] == []
