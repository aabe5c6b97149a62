"""The attacks on a server of this checkout, in their quick form, and what they are made of."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from service.contract.artifact import Artifact
from tests.long.hostile.artifacts import copy_version, endless_loop, manifest_of, read_file, replace_graph
from tests.long.hostile.case import Case, Verdict, exactly, measure
from tests.long.hostile.cases import CASES
from tests.long.hostile.clocks import ClockedServer
from tests.long.hostile.imports import exported, put
from tests.long.hostile.session_record import SessionRecord
from tests.long.hostile.stage import Checkout, Stage
from tests.long.hostile.wire import SESSION_RECORD, Client, Prober
from tests.support.paths import MODELS, ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc: run it on Linux")

CHECKOUT = Checkout(ROOT, Path(sys.executable))
BY_NAME = {case.name: case for case in CASES}
# one or two of each area, which no busy machine disturbs
LEVEL_2 = {
    "framing-rules", "proxy-smuggling", "grpc-many-parts", "memory-valkey", "work-present", "import-nonsense",
    "sessions-dropped", "store-truncated", "valkey-policy", "artifact-reads-files", "clock-steps", "signal-early",
}  # fmt: skip
LEVELS = [
    pytest.param(case, id=case.name, marks=pytest.mark.process if case.name in LEVEL_2 else pytest.mark.long)
    for case in CASES
]
STALL_S = 0.3


@pytest.mark.parametrize("case", LEVELS)
def test_the_server_holds(case: Case, tmp_path: Path) -> None:
    measured = measure(case, CHECKOUT, tmp_path, is_quick=True)
    if measured.verdict is Verdict.skipped:
        pytest.skip(measured.reason)
    assert measured.verdict is Verdict.held, measured


@pytest.mark.long
def test_a_case_is_held_or_broken(tmp_path: Path) -> None:
    case = BY_NAME["framing-upgrade"]
    for name, bounds, verdict in (
        ("held", case.bounds, Verdict.held),
        ("broken", {"deleted": exactly(1)}, Verdict.broken),
    ):
        (tmp_path / name).mkdir()
        measured = measure(replace(case, bounds=bounds), CHECKOUT, tmp_path / name, is_quick=True)
        assert measured.verdict is verdict, measured


@pytest.mark.long
def test_a_record_is_altered_and_sealed(tmp_path: Path) -> None:
    with Stage(CHECKOUT, tmp_path, is_quick=True) as stage:
        client = Client(stage.server().port)
        record = exported(client, "speech-digits")
        content = client.call("GET", "/sessions/source-speech-digits/state").body
        assert SessionRecord.parse(content).sealed() == content
        assert put(client, "copy", record) == "201"
        assert client.chunk("copy").json()["total_steps"] == 55
        damaged = content[:-40] + b"xxxx" + content[-36:]
        answer = client.call("PUT", "/sessions/other/state", damaged, {"Content-Type": SESSION_RECORD})
        assert answer.status == 422
        assert put(client, "other", record.with_reply(label="no label")) in ("201", "422")


@pytest.mark.long
def test_the_prober_sees_a_server_that_stands_still(tmp_path: Path) -> None:
    with Stage(CHECKOUT, tmp_path, is_quick=True) as stage:
        server = stage.server()
        with Prober(server.port) as prober:
            server.send(signal.SIGSTOP)
            time.sleep(STALL_S)  # this is what it has to see
            server.send(signal.SIGCONT)
        assert prober.longest_ms > 0.9e3 * STALL_S
        before_s = server.cpu_s()
        Client(server.port).chunk("a", 20_000, model="shd-size")
        assert server.cpu_s() > before_s
        server.reset_peak()
        assert server.rss_mib() <= server.peak_mib() < 2_000
        assert server.metric("hetsyn_steps_total") == 20_000
        assert server.end() < 20
        assert server.process.returncode == -signal.SIGTERM


@pytest.mark.long
def test_the_clock_of_a_server_is_moved(tmp_path: Path) -> None:
    with Stage(CHECKOUT, tmp_path, is_quick=True) as stage:
        clocked = ClockedServer(stage, "ahead", tmp_path / "sessions.db", 86_400.0)
        clocked.client.chunk("a")
        record = SessionRecord.parse(clocked.client.call("GET", "/sessions/a/state").body)
        assert record.head[6] > time.time() + 80_000


@pytest.mark.long
def test_changed_graphs_have_the_hash_of_their_manifest(tmp_path: Path) -> None:
    for number, change in enumerate((read_file("carry.keys"), endless_loop), 2):
        version = tmp_path / "pattern-generation" / str(number)
        copy_version(MODELS / "pattern-generation/1", version)
        original = (version / "bank.onnx").read_bytes()
        replace_graph(version, change)
        assert (version / "bank.onnx").read_bytes() != original
        assert manifest_of(version)["version"] == str(number)
        Artifact.open(version)
