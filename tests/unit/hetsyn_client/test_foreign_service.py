"""The client in a folder that has somebody else's package called ``service``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STREAM = """
import sys

import httpx
import numpy as np

import hetsyn_client

theirs = ("aiohttp", "fastapi", "onnxruntime", "pydantic", "soundfile", "soxr", "typer", "uvicorn")
assert not set(theirs) & set(sys.modules), "the client imported what it can do without"
assert hetsyn_client.AsyncStreamingClient.__name__ in hetsyn_client.__all__
assert not set(theirs[1:]) & set(sys.modules), "the client for asyncio imported what it can do without"

import hetsyn_client.terminal.commands
import hetsyn_client.loadtest.commands
import hetsyn_client.loadtest.report
import hetsyn_client.loadtest.run

assert "service" not in sys.modules, "the client imported a package called service"
transport = httpx.MockTransport(lambda request: httpx.Response(200, json=dict(request.url.params)))
with hetsyn_client.StreamingClient("http://server", network=transport) as client, client.session() as session:
    session.send(np.zeros(800, np.int16), 8000)
    print(session.end()["seq"])

import service

assert service.OWNER == "somebody else"
"""


def run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.process
def test_the_client_works_beside_a_foreign_service(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service/__init__.py").write_text('OWNER = "somebody else"\n')
    assert run(tmp_path, "-c", STREAM) == "1\n"
    assert "Stream recordings" in run(tmp_path, "-m", "hetsyn", "stream", "--help")
    assert "Put a server under load" in run(tmp_path, "-m", "hetsyn", "bench", "--help")
