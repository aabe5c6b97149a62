"""OpenAPI, AsyncAPI and the names of metrics are those that were kept: they are stable for 0.1."""

from __future__ import annotations

import httpx

from tests.support.repository.interface import KEPT, interface


async def test_the_interface_is_the_kept_one(client: httpx.AsyncClient) -> None:
    kept, found = set(KEPT.read_text().splitlines()), set(await interface(client))
    keep = "if it has to be so, say it in CHANGELOG.md, and run: python -m tests.support.repository.interface"
    gone, new = "\n".join(sorted(kept - found)), "\n".join(sorted(found - kept))
    assert not gone, f"clients of 0.1 may need what is gone:\n{gone}\nnew:\n{new}\n{keep}"
    assert not new, f"new:\n{new}\n{keep}"
