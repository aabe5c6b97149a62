"""What sessions take of a process's memory, against what the server counts, with the shipped models."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from tests.support.stores.session_memory import KINDS

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc"),
]


def measured(kinds: str, count: int, max_session_bytes: int = 1 << 30) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.support.stores.session_memory", kinds, str(count), str(max_session_bytes)]
    found: dict[str, int] = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    return found


COUNTS = {
    "step": 2_000,
    "sample": 4_000,
    "sound that waits": 400,
    "trace": 300,
    "ended": 8_000,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_counts_what_sessions_take(kind: str) -> None:
    found = measured(kind, COUNTS[kind])
    assert found["refused"] == 0
    assert 0.75 * found["counted"] < found["resident"] < found["counted"]


def test_sessions_of_any_kind_stay_within_the_bytes() -> None:
    most = 48 * 1024 * 1024
    found = measured(",".join(KINDS), 1_500, most)
    assert found["refused"] > 200
    assert found["resident"] < most
