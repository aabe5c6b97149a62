"""The interface that is stable for 0.1, as lines of ``tests/golden/interface.txt``: one for each name, type and bound.

``python -m tests.support.repository.interface`` keeps the lines of this checkout.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.gate import Gate
from tests.support.paths import GOLDEN
from tests.support.servers.in_process import HttpServer

KEPT = GOLDEN / "interface.txt"
_PROSE = frozenset({"description", "summary", "title", "examples", "operationId", "tags"})


async def interface(client: httpx.AsyncClient) -> list[str]:
    """Describe what a server's OpenAPI, AsyncAPI and metrics name, without their prose."""
    lines = []
    for name in ("openapi", "asyncapi"):
        document = (await client.get(f"/{name}.json")).json()
        del document["info"]
        lines += [f"{name} {line}" for line in _leaves("", document)]
    metrics = re.findall(r"^# TYPE (\S+ \w+)$", (await client.get("/metrics")).text, re.MULTILINE)
    return sorted({*lines, *(f"metrics {metric}" for metric in metrics)})


def _leaves(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, member in value.items():
            if name not in _PROSE or isinstance(member, dict):
                yield from _leaves(f"{path} {name}", member)
    elif isinstance(value, list) and value:
        for place, member in enumerate(value):
            mark = f"[{member.get('name', place)}]" if isinstance(member, dict) else "[]"
            yield from _leaves(f"{path}{mark}", member)
    else:
        yield f"{path.strip()}: {json.dumps(value)}"


async def _keep() -> None:
    with TemporaryDirectory() as folder:
        write_artifact(Path(folder))
        async with HttpServer(Path(folder), Gate()) as server:
            KEPT.write_text("\n".join(await interface(server.client)) + "\n")


if __name__ == "__main__":
    asyncio.run(_keep())
