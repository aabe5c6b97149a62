"""Sessions that are exported as bytes and imported, with a store and without one."""

from __future__ import annotations

import pytest

from service.carried.carry_keys import CarryKeys
from service.errors import (
    CarryUnavailable,
    SessionExists,
    StoreUnavailable,
    TokenExpired,
    TokenForged,
    TokenKeyUnknown,
)
from tests.support.clients.infer_request import infer_request
from tests.support.servers.apply_chunk import apply_chunk
from tests.support.servers.in_process import DirectServer, ServeDirect
from tests.support.stores.cluster import Cluster


async def test_a_session_moves_as_bytes(cluster: Cluster, serve: ServeDirect) -> None:
    """From a store to a server without one, under another id, and back."""
    stored = cluster.replica()
    alone = serve(clock=cluster.clock, session_idle_s=60)
    expected = await cluster.undisturbed(4, end=False)
    for n in range(2):
        await stored.send("a", n, seed=n)
    described, is_new = await alone.transfer.import_state(
        "b", await stored.transfer.export_state("a"), replace_it=False
    )
    assert is_new
    assert (described["session"], described["expected_seq"], described["total_steps"]) == ("b", 2, 20)
    assert (await alone.send("b", 1, seed=1)).session == "b"  # the duplicate
    assert (await alone.send("b", 2, seed=2)).probabilities == expected[2].probabilities
    content = await alone.transfer.export_state("b")
    with pytest.raises(SessionExists, match="replace=true"):
        await stored.transfer.import_state("a", content, replace_it=False)
    described, is_new = await stored.transfer.import_state("a", content, replace_it=True)
    assert not is_new
    other = cluster.replica()
    assert await other.send("a", 3, seed=3) == expected[3]
    assert other.counters.sessions_loaded == 1


async def test_an_import_is_checked(cluster: Cluster) -> None:
    server = cluster.replica()
    await server.send("a", 0)
    content = await server.transfer.export_state("a")
    cluster.clock.now_s += 60
    await server.transfer.import_state("a", content, replace_it=False)  # what was there has expired
    assert (await server.send("a", 1, seed=1)).seq == 1
    await cluster.overwrite("a", b"damaged")
    with pytest.raises(SessionExists, match="replace=true"):
        await server.transfer.import_state("a", content, replace_it=False)
    await server.transfer.import_state("a", content, replace_it=True)
    cluster.clock.now_s += 1000
    with pytest.raises(TokenExpired, match="has expired"):
        await server.transfer.import_state("c", content, replace_it=False)
    await server.send("d", 0)
    content = await server.transfer.export_state("d")
    cluster.store.down = True
    with pytest.raises(StoreUnavailable):
        await server.transfer.import_state("c", content, replace_it=False)


async def test_a_server_without_a_store_imports_over_what_was_there(serve: ServeDirect) -> None:
    server = serve(session_idle_s=60)
    await server.send("a", 0)
    content = await server.transfer.export_state("a")
    server.clock.now_s += 60
    await server.transfer.import_state("a", content, replace_it=True)  # nobody has noticed yet that it is gone
    assert (await server.send("a", 1, seed=1)).seq == 1
    server.clock.now_s += 60
    await server.transfer.import_state("a", content, replace_it=False)
    assert (await server.send("a", 1, seed=1)).seq == 1
    ended = await server.send("a", 2, seed=2, end=True)
    moved = await server.transfer.export_state("a")
    await server.transfer.import_state("a", content, replace_it=True)
    assert (await server.send("a", 1, seed=1)).seq == 1
    await server.transfer.import_state("a", moved, replace_it=True)
    assert await server.send("a", 2, seed=2, end=True) == ended


async def test_without_keys_nothing_is_exported_or_imported(serve: ServeDirect) -> None:
    content = await exported(serve())
    server = serve(keys=None)
    await server.send("a", 0)
    how = "openssl rand -base64 32 > carry.keys.*hetsyn serve --carry-keys carry.keys"
    with pytest.raises(CarryUnavailable, match=how):
        await server.transfer.export_state("a")
    with pytest.raises(CarryUnavailable, match=how):
        await server.transfer.import_state("b", content, replace_it=False)


async def test_a_server_with_other_keys_imports_nothing(serve: ServeDirect) -> None:
    content = await exported(serve())
    other = serve(keys=CarryKeys([bytes(32)]))
    with pytest.raises(TokenKeyUnknown):
        await other.transfer.import_state("a", content, replace_it=False)


async def test_an_export_names_no_key_and_a_token_that_a_key_carries_is_none(serve: ServeDirect) -> None:
    server = serve()
    request = infer_request("a", 0)._replace(owner="alice")
    with server.admission.permit("") as permit:
        await apply_chunk(server.registry, request, permit)
        carried = await server.parts.carried.infer(request._replace(carry=True), permit)
    content = await server.transfer.export_state("alice/a")
    await server.transfer.import_state("bob/a", content, replace_it=False)  # alice may give it away
    assert carried.token is not None
    for importer in ("alice/b", "bob/b"):  # the sentence must be true of the key's own client, too
        with pytest.raises(TokenForged, match=r"the token belongs to a key.* send it with that key, to POST /infer"):
            await server.transfer.import_state(importer, carried.token, replace_it=False)


async def exported(server: DirectServer) -> bytes:
    await server.send("a", 0)
    return await server.transfer.export_state("a")
