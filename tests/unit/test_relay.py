"""The relay cuts where it is told, and leaves no socket open, whenever it cuts or ends."""

from __future__ import annotations

import gc
import socket
import warnings

from tests.support.relay import HOST, Relay, relayed

CONNECTIONS = 12
CUT_EVERY = 5


def test_connections_that_are_being_made_are_closed_too() -> None:
    with warnings.catch_warnings(record=True) as warned, socket.create_server((HOST, 0)) as target:
        warnings.simplefilter("always")
        relay = Relay(target.getsockname()[1])
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


def test_a_connection_is_cut_after_so_many_bytes_in_both_directions_together() -> None:
    with socket.create_server((HOST, 0)) as target, relayed(target.getsockname()[1], [1, 10]) as relay:
        reset, orderly, free = (exchanged(relay.port, target) for _ in range(3))
    assert len(reset) <= 1
    assert orderly == b"questi" + b"answ"
    assert free == b"questi" + b"answer"


def exchanged(port: int, target: socket.socket) -> bytes:
    """What the server and then the client get, of six bytes each."""
    with socket.create_connection((HOST, port)) as client:
        client.sendall(b"questi")
        server, _ = target.accept()
        with server:
            asked = received(server)
            if len(asked) == 6:
                server.sendall(b"answer")
            return asked + received(client)


def received(connection: socket.socket) -> bytes:
    content = b""
    try:
        while len(content) < 6 and (part := connection.recv(6)):
            content += part
    except ConnectionResetError:
        pass
    return content
