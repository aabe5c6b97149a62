"""Tries an installation: starts its server, and compares answers with those that the export recorded.

    python -I smoke.py VERSION [MODELS]

It runs in an environment, or in a container, that has nothing of the checkout. Without a folder of models it takes the
model of the installation. It prints a line, after what the server says about the machine, or fails.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from hetsyn_client import StreamingClient

WORD = "seven"
TOLERANCE = 1e-5  # of a probability: as far as two forms of the same sums differ
START_TIMEOUT_S = 120.0
SAID = ("models:", "device:", "operator:", "no GPU")  # of the server's first lines, what is about the machine


def main() -> None:
    version, service = sys.argv[1], service_folder()
    options = ["--models", sys.argv[2]] if len(sys.argv) > 2 else []
    models = Path(sys.argv[2]) if options else service / "shipped_models"
    model = (models / "default").read_text().strip()
    artifact = max((models / model).iterdir(), key=lambda folder: int(folder.name))
    recording = service / f"page/recordings/{WORD}.wav"
    installed = metadata.version("hetsyn")
    if installed != version:
        raise SystemExit(f"hetsyn {installed} is installed, and {version} was to be")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    program = Path(sys.executable).with_name("hetsyn")  # the command that the installation made
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryFile() as log:
        heard = subprocess.run(
            [program, "run", model, recording, "--one-word", "--json", *options],
            cwd=empty,
            capture_output=True,
            check=True,
        )
        if json.loads(heard.stdout.splitlines()[-1])["label"] != WORD:
            raise SystemExit(f"hetsyn run hears in {recording}: {heard.stdout.decode()}")
        server = subprocess.Popen(
            [program, "serve", "--port", port, *options],
            cwd=empty,
            env=os.environ | {"COLUMNS": "1000"},  # its lines are not broken
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            problem = try_server(f"http://127.0.0.1:{port}", server, artifact, recording)
        finally:
            server.terminate()
            server.wait()
        log.seek(0)
        lines = log.read().decode(errors="replace").splitlines()
    if problem:
        raise SystemExit("\n".join([*lines[-20:], problem]))
    print("\n".join(line for line in lines if any(text in line for text in SAID)))
    print(f"hetsyn {version}: golden streams of {model} {artifact.name} within {TOLERANCE:g}; {WORD}.wav is {WORD}")


def service_folder() -> Path:
    """Find the folder of the installed package ``service``."""
    spec = importlib.util.find_spec("service")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def try_server(url: str, server: subprocess.Popen[bytes], artifact: Path, recording: Path) -> str | None:
    """Say what is wrong with a server that starts; None if nothing is."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(trust_env=False) as http:
        while not _is_ready(http, url):
            if server.poll() is not None or time.monotonic() > deadline_s:
                return "the server did not start; its message stands above"
            time.sleep(0.05)
    with StreamingClient(url) as client:
        return golden_problem(client, artifact) or recording_problem(client, recording)


def _is_ready(http: httpx.Client, url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return http.get(f"{url}/health/ready").is_success
    return False


def golden_problem(client: StreamingClient, artifact: Path) -> str | None:
    """Send the golden streams in two chunks each, and compare the last answers."""
    model, manifest = artifact.parent.name, json.loads((artifact / "manifest.json").read_text())
    with np.load(artifact / "golden.npz") as golden:
        arrays: dict[str, Any] = dict(golden)
    answers = arrays[f"{manifest['network']['form']}.probabilities"]
    for index, steps in enumerate(arrays["steps"]):
        spikes = arrays["spikes"][index, :steps]
        with client.session(model=model) as session:
            # not ended: the end of a session adds steps without input
            for part in np.array_split(spikes, 2):
                times, units = part.nonzero()
                reply = session.send_events(len(part), times, units)
        off = np.abs(np.array(reply["probabilities"]) - answers[index]).max()
        if not off <= TOLERANCE:
            return f"{model}, golden stream {index}: the answer is off by {off:.2g}"
    return None


def recording_problem(client: StreamingClient, recording: Path) -> str | None:
    """Stream a recording to the default model in chunks, and in one: both give its word, with the same numbers."""
    *_, chunked = client.stream_file(recording, 0.1)
    *_, whole = client.stream_file(recording, 60.0)
    if chunked["label"] != WORD:
        return f"{recording.name} is heard as {chunked['label']}"
    if chunked["probabilities"] != whole["probabilities"]:
        return f"{recording.name} gives other numbers in chunks than in one"
    return None


if __name__ == "__main__":
    main()
