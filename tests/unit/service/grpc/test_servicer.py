"""Clients of the gRPC port, by the address of their connection."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.support.tools import NO_TRITONCLIENT

pytest.importorskip("tritonclient", reason=NO_TRITONCLIENT)
pytest.importorskip("grpc_health", reason=NO_TRITONCLIENT)


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3::4%5D:5000", "2001:0db8:0001:0002"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:5000", "192.0.2.1"),
        ("unix:/run/socket", ""),
    ],
)
def test_a_client_is_the_one_that_it_would_be_over_http(peer: str, client: str) -> None:
    from service.grpc.servicer import client_of

    assert client_of(SimpleNamespace(peer=lambda: peer)) == client
