"""The public names of the client: the same in both clients."""

from __future__ import annotations

import pytest

import hetsyn_client
from hetsyn_client import AsyncLiveStream, AsyncSession, AsyncStreamingClient, LiveStream, Session, StreamingClient


@pytest.mark.parametrize(
    ("kind", "twin"),
    [(StreamingClient, AsyncStreamingClient), (Session, AsyncSession), (LiveStream, AsyncLiveStream)],
)
def test_both_clients_have_the_same_names(kind: type, twin: type) -> None:
    assert [name for name in vars(kind) if not name.startswith("_")] == [
        name for name in vars(twin) if not name.startswith("_")
    ]


def test_a_name_that_does_not_exist_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        hetsyn_client.Nothing  # noqa: B018
