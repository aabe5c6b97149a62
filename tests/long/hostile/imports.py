"""Sessions that are imported with contents that no server made: large, meaningless, or close to overflow."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from http.client import HTTPException

from hetsyn_client.events import MEDIA_TYPE as EVENTS
from hetsyn_client.events import pack_events
from tests.long.hostile.case import Case, Figure, at_least, at_most, exactly
from tests.long.hostile.session_record import DIGEST, EXPECTED_SEQ, REPLY, TOTAL_STEPS, SessionRecord
from tests.long.hostile.stage import AttackedServer, Stage
from tests.long.hostile.wire import SESSION_RECORD, Client, Prober

ELEMENTS = 5_000_000  # strings of a readout, 15 MB
NUMBERS = 7_500_000
HUGE = 3e38  # just below the largest float32
TOO_MANY = 2**53
STREAMS, POISONED = 12, 4
SPIKES = pack_events(100, list(range(100)), [number % 30 for number in range(100)])


def exported(client: Client, model: str) -> SessionRecord:
    """The record of a new session of 50 steps."""
    client.chunk(f"source-{model}", 50, model=model, begin="true")
    return SessionRecord.parse(client.call("GET", f"/sessions/source-{model}/state").body)


def put(client: Client, session: str, record: SessionRecord) -> str:
    """The status of an import, or the name of the error."""
    path = f"/sessions/{session}/state?replace=true"
    try:
        return str(client.call("PUT", path, record.sealed(), {"Content-Type": SESSION_RECORD}).status)
    except (OSError, HTTPException) as error:
        return type(error).__name__


def _large(stage: Stage, readout: str) -> Mapping[str, Figure]:
    server = stage.server()
    client = Client(server.port)
    record = exported(client, "speech-digits").with_readout(readout)
    server.reset_peak()
    base_mib, base_s = server.rss_mib(), server.cpu_s()
    with Prober(server.port) as prober:
        status = put(client, "large", record)
        time.sleep(0.05)
    return {
        "taken": int(status in ("200", "201")),
        "status": status,
        "cpu_s": server.cpu_s() - base_s,
        "stall_ms": prober.longest_ms,
        "peak_mib": server.peak_mib() - base_mib,
        "kept_mib": server.rss_mib() - base_mib,
    }


def attack_strings(stage: Stage) -> Mapping[str, Figure]:
    return _large(stage, "[[" + ",".join(['""'] * ELEMENTS) + "]]")


def attack_numbers(stage: Stage) -> Mapping[str, Figure]:
    return _large(stage, "[[" + ",".join(["0"] * NUMBERS) + "]]")


def nonsense(record: SessionRecord) -> Mapping[str, SessionRecord]:
    """Records of a session of ``speech-digits`` that say what cannot be, by what is wrong with them."""
    labels = json.loads(record.sections[REPLY])["labels"]
    return {
        "labels": record.with_reply(labels=["x"] * 3),
        "label": record.with_reply(label="<script>"),
        "probabilities above 1": record.with_reply(probabilities=[5.0] * len(labels)),
        "too few probabilities": record.with_reply(probabilities=[0.5, 0.5]),
        "no probabilities": record.with_reply(probabilities=None),
        "readout of a classifier": record.with_readout("[[0]]"),
        "infinite readout": record.with_readout("[[1e999]]"),
        "empty digest": record.with_section(DIGEST, b""),
        "long digest": record.with_section(DIGEST, b"x" * 1_000_000),
        "network of 3e38": record.with_network(HUGE),
        "network of -3e38": record.with_network(-HUGE),
        "too many steps": record.with_head({TOTAL_STEPS: TOO_MANY}).with_reply(total_steps=TOO_MANY),
        "last number": record.with_head({EXPECTED_SEQ: TOO_MANY}).with_reply(seq=TOO_MANY - 1),
    }


def attack_nonsense(stage: Stage) -> Mapping[str, Figure]:
    """Records that are taken, and among them those with which the server then fails."""
    server = stage.server()
    client = Client(server.port)
    record = exported(client, "speech-digits")
    taken, failed, unloadable = [], [], []
    for number, (name, altered) in enumerate(nonsense(record).items()):
        session = f"nonsense-{number}"
        if put(client, session, altered) not in ("200", "201"):
            continue
        taken.append(name)
        if client.outcome(session).startswith("5"):
            failed.append(name)
        back = client.call("GET", f"/sessions/{session}/state")
        again = back.status == 200 and put(client, f"again-{number}", SessionRecord.parse(back.body)) in ("200", "201")
        if not again:
            unloadable.append(name)
    whole = put(client, "whole", record)
    return {
        "taken": len(taken),
        "server_errors": len(failed),
        "unloadable": len(unloadable),
        "unaltered_status": whole,
        "which": "; ".join(taken),
    }


def attack_overflow(stage: Stage) -> Mapping[str, Figure]:
    """A state that overflows in the next chunk, in a store of two servers: is the chunk acknowledged and then lost?"""
    store = f"file://{stage.folder}/sessions.db"
    servers = [stage.server("--store", store), stage.server("--store", store)]
    first, second = (Client(server.port) for server in servers)
    lost = server_errors = imported = 0
    for number, model in enumerate(("delayed-match", "speech-digits", "pattern-generation")):
        record = exported(first, model)
        for index, value in enumerate((HUGE, -HUGE, 1e38, 1e30, 1e20)):
            session = f"overflow-{number}-{index}"
            if put(first, session, record.with_network(value)) not in ("200", "201"):
                continue
            imported += 1
            try:
                acknowledged = first.infer(SPIKES, EVENTS, session=session, seq=1).status
                following = second.infer(SPIKES, EVENTS, session=session, seq=2).status
            except (OSError, HTTPException):
                acknowledged = following = 599
            server_errors += acknowledged >= 500
            lost += acknowledged == 200 and following != 200
    whole = put(first, "whole", record)
    return {"acknowledged_then_lost": lost, "server_errors": server_errors, "imported": imported, "unaltered": whole}


def attack_neighbours(stage: Stage) -> Mapping[str, Figure]:
    """Streams beside sessions whose state is close to overflow, in the same batches."""
    server = stage.server()
    client = Client(server.port)
    poison = exported(client, "speech-digits").with_network(HUGE)
    imported = sum(put(client, f"poison-{number}", poison) in ("200", "201") for number in range(POISONED))
    lasts_s = 2.0 if stage.is_quick else 6.0
    calm = _streams(server, lasts_s, poisoned=0)
    log_bytes = server.log.stat().st_size
    loud = _streams(server, lasts_s, poisoned=POISONED)
    return {
        "imported": imported,
        "poisoned_server_errors": loud["server_errors"],
        "good_failed": loud["failed"],
        "good_with_to_without": loud["good"] / max(1, calm["good"]),
        "log_kib": (server.log.stat().st_size - log_bytes) / 1024,
    }


def _streams(server: AttackedServer, lasts_s: float, poisoned: int) -> dict[str, int]:
    """Counts of chunks of good streams and of poisoned ones, side by side."""
    counts, lock = {"good": 0, "failed": 0, "server_errors": 0}, threading.Lock()
    end_s = time.monotonic() + lasts_s

    def good(number: int) -> None:
        client, seq = Client(server.port), 0
        session = f"good-{poisoned}-{number}"
        while time.monotonic() < end_s:
            answer = client.chunk(session, 10, seq=seq)
            seq += 1
            right = answer.status == 200 and answer.json()["total_steps"] == 10 * seq
            with lock:
                counts["good" if right else "failed"] += 1

    def bad(number: int) -> None:
        client = Client(server.port)
        while time.monotonic() < end_s:
            status = client.outcome(f"poison-{number}", 10)
            with lock:
                counts["server_errors"] += status.startswith("5")
            if status == "404":
                return

    threads = [threading.Thread(target=good, args=(number,)) for number in range(STREAMS)]
    threads += [threading.Thread(target=bad, args=(number,)) for number in range(poisoned)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts


LARGE = {
    "taken": exactly(0),
    "cpu_s": at_most(2),
    "stall_ms": at_most(1_000),
    "peak_mib": at_most(256),
    "kept_mib": at_most(64),
}
CASES = (
    Case(
        "import-strings",
        "An import of 15 MB whose readout is full of strings is parsed on the event loop, with an error for each.",
        attack_strings,
        LARGE,
        {"stall_ms": 28_100, "peak_mib": 4_200, "status": "422"},
    ),
    Case(
        "import-numbers",
        "An import of 15 MB whose readout is full of numbers is taken, and kept.",
        attack_numbers,
        LARGE,
        {"stall_ms": 1_170, "kept_mib": 279, "status": "201"},
    ),
    Case(
        "import-nonsense",
        "An import is taken whose reply, digest or state no session of the model can have.",
        attack_nonsense,
        {
            "taken": exactly(0),
            "server_errors": exactly(0),
            "unloadable": exactly(0),
            "unaltered_status": exactly("201"),
        },
        {"taken": 6},
    ),
    Case(
        "import-overflow",
        "A chunk is acknowledged that makes a state which no server loads.",
        attack_overflow,
        {"acknowledged_then_lost": exactly(0), "server_errors": exactly(0), "unaltered": exactly("201")},
        {"acknowledged_then_lost": 1},
    ),
    Case(
        "import-neighbours",
        "Sessions close to overflow answer 500, write tracebacks and slow down the streams in their batches.",
        attack_neighbours,
        {
            "poisoned_server_errors": exactly(0),
            "good_failed": exactly(0),
            "good_with_to_without": at_least(0.6),
            "log_kib": at_most(64),
        },
        {"imported": 4, "good_with_to_without": 0.47, "log_kib": 4_500},
    ),
)
