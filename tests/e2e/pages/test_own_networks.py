"""Each section of docs/guides/own-networks.md, typed as it is written in an empty folder, ends with an answer."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.repository.documents import ANSWERS, OWN_NETWORKS, commands, sections, typed
from tests.support.servers.server_process import free_port, wait_until_ready
from tests.support.tools import NO_NIR

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shutil.which("curl") is None, reason="the pages end with curl calls: apt-get install curl"),
]

SECTIONS = sections(OWN_NETWORKS)
FENCE = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MOST_COMMANDS = 4  # perhaps train, export or import, serve, curl
AT_EVERY_MERGE = ("A HetSyn network of your own", "A recurrent cell")


@contextmanager
def serving(command: str, folder: Path, port: int) -> Iterator[None]:
    options = command.split()[2:]
    process = subprocess.Popen([sys.executable, "-m", "hetsyn", "serve", *options, "--port", str(port)], cwd=folder)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)


@pytest.mark.parametrize(
    "section",
    [name if name in AT_EVERY_MERGE else pytest.param(name, marks=pytest.mark.long) for name in ANSWERS],
)
def test_a_section_ends_with_an_answer(section: str, tmp_path: Path) -> None:
    if section == "A network in NIR":
        pytest.importorskip("nir", reason=NO_NIR)
    port, count, answers = free_port(), 0, list[str]()
    server = None
    for language, code in FENCE.findall(SECTIONS[section]):
        if language == "python":
            (tmp_path / "program.py").write_text(code)
            typed("python program.py", tmp_path, PYTHONPATH=str(ROOT))
            continue
        for command in commands(code):
            count += 1
            if command.startswith("hetsyn serve"):
                server = command
            elif command.startswith("curl "):
                assert server is not None
                with serving(server, tmp_path, port):
                    local = command.replace("localhost:8000", f"127.0.0.1:{port}")
                    answers.append(typed(f"curl --silent --show-error --fail-with-body {local[5:]}", tmp_path))
            else:
                typed(command, tmp_path, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    assert count <= MOST_COMMANDS
    (answer,) = answers
    reply = json.loads(answer)
    assert reply["label"] == ANSWERS[section]
