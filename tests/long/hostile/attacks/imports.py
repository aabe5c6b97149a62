"""Sessions that are imported with contents that no server sealed."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPException

from tests.long.hostile.case import Case, Figure, at_most, exactly
from tests.long.hostile.stage import Stage
from tests.long.hostile.wire import SESSION_RECORD, Client, Prober

LARGE_BYTES = 15_000_000


def exported(client: Client, model: str) -> bytes:
    """A new session of 50 steps, sealed."""
    client.chunk(f"source-{model}", 50, model=model, begin="true")
    return client.call("GET", f"/sessions/source-{model}/state").body


def put(client: Client, session: str, content: bytes) -> str:
    """The status of an import, or the name of the error."""
    path = f"/sessions/{session}/state?replace=true"
    try:
        return str(client.call("PUT", path, content, {"Content-Type": SESSION_RECORD}).status)
    except (OSError, HTTPException) as error:
        return type(error).__name__


def attack_forged(stage: Stage) -> Mapping[str, Figure]:
    """Each byte of an export in turn is another one; and one is cut off everywhere."""
    client = Client(stage.server().port)
    whole = exported(client, "speech-digits")
    step = 97 if stage.is_quick else 7
    places = range(0, len(whole), step)
    changed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in places]
    taken = [put(client, f"forged-{number}", content) for number, content in enumerate(changed)]
    cut = [put(client, f"cut-{at}", whole[:at]) for at in places]
    return {
        "taken": sum(status in ("200", "201") for status in (*taken, *cut)),
        "server_errors": sum(status.startswith("5") for status in (*taken, *cut)),
        "unaltered_status": put(client, "whole", whole),
    }


def attack_large(stage: Stage) -> Mapping[str, Figure]:
    """An import of 15 MB that begins as an export does."""
    server = stage.server()
    client = Client(server.port)
    content = exported(client, "speech-digits")[:80] + bytes(LARGE_BYTES)
    server.reset_peak()
    base_mib, base_s = server.rss_mib(), server.cpu_s()
    with Prober(server.port, server.process.pid) as prober:
        status = put(client, "large", content)
    return {
        "taken": int(status in ("200", "201")),
        "status": status,
        "cpu_s": server.cpu_s() - base_s,
        "stall_ms": prober.longest_ms,
        "peak_mib": server.peak_mib() - base_mib,
        "kept_mib": server.rss_mib() - base_mib,
    }


CASES = (
    Case(
        "import-forged",
        "An import is taken that no server has sealed so: its session answers what no chunk led to.",
        attack_forged,
        {"taken": exactly(0), "server_errors": exactly(0), "unaltered_status": exactly("201")},
        {"taken": 6},
    ),
    Case(
        "import-large",
        "An import of 15 MB stops the event loop, or is kept.",
        attack_large,
        {
            "taken": exactly(0),
            "cpu_s": at_most(2),
            "stall_ms": at_most(1_000),
            "peak_mib": at_most(256),
            "kept_mib": at_most(64),
        },
        {"stall_ms": 28_100, "peak_mib": 4_200, "status": "422"},
    ),
)
