"""The attacks on a server of this checkout, in their quick form, and what they are made of."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from service.contract.artifact import Artifact
from tests.long.hostile.attacks.artifacts import copy_version, endless_loop, manifest_of, read_file, replace_graph
from tests.long.hostile.attacks.imports import exported, put
from tests.long.hostile.case import Case, Verdict, exactly, measure
from tests.long.hostile.cases import CASES
from tests.long.hostile.stage import Checkout, Stage
from tests.long.hostile.wire import Client, Prober
from tests.support.paths import MODELS, ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc: run it on Linux")

CHECKOUT = Checkout(ROOT, Path(sys.executable))
BY_NAME = {case.name: case for case in CASES}
# one or two of each area, which no busy machine disturbs
LEVEL_2 = {
    "framing-rules", "proxy-smuggling", "grpc-many-parts", "memory-valkey", "work-present", "import-forged",
    "sessions-dropped", "store-deleted", "valkey-policy", "artifact-reads-files", "signal-early",
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
def test_an_export_is_imported_and_a_changed_one_is_not(tmp_path: Path) -> None:
    with Stage(CHECKOUT, tmp_path, is_quick=True) as stage:
        client = Client(stage.server().port)
        content = exported(client, "speech-digits")
        assert put(client, "copy", content) == "201"
        assert client.chunk("copy").json()["total_steps"] == 55
        assert put(client, "other", content[:-40] + b"xxxx" + content[-36:]) == "422"


@pytest.mark.long
def test_the_prober_sees_a_server_that_stands_still(tmp_path: Path) -> None:
    with Stage(CHECKOUT, tmp_path, is_quick=True) as stage:
        server = stage.server()
        with Prober(server.port, server.process.pid) as prober:
            server.send(signal.SIGSTOP)
            time.sleep(STALL_S)  # this is what it has to see
            server.send(signal.SIGCONT)
        assert prober.longest_ms > 0.9e3 * STALL_S
        before_s = server.cpu_s()
        Client(server.port).chunk("a", 20_000, model="shd-size", begin="true")
        assert server.cpu_s() > before_s
        server.reset_peak()
        assert server.rss_mib() <= server.peak_mib() < 2_000
        assert server.metric("hetsyn_steps_total") == 20_000
        assert server.end() < 20
        assert server.process.returncode == -signal.SIGTERM


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
