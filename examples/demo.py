"""``make demo``: start a server on the shipped models, stream a recording through it, say what to do next."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
RECORDING = ROOT / "docs/recordings/seven.wav"
START_TIMEOUT_S = 60.0
NEXT = """
Next, in this folder:

    . .venv/bin/activate
    hetsyn serve

Then open http://127.0.0.1:8000/ and speak, or in a second terminal:

    . .venv/bin/activate
    hetsyn stream docs/recordings/three.wav

README.md continues from there: clients, your own network, sessions that survive, deployment."""


def main() -> int:
    """Serve, stream, stop; the exit code is the stream's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    hetsyn = [sys.executable, "-m", "hetsyn"]
    print(f"$ hetsyn serve --models models --port {port}", flush=True)
    server = subprocess.Popen(
        [*hetsyn, "serve", "--models", str(ROOT / "models"), "--port", str(port), "--log-level", "warning"],
        stdout=subprocess.DEVNULL,
    )
    try:
        if not _ready(url, server):
            print("the server did not start; its message stands above", file=sys.stderr)
            return 1
        print(f"$ hetsyn stream {RECORDING.relative_to(ROOT)} --url {url} --one-word", flush=True)
        streamed = subprocess.run([*hetsyn, "stream", str(RECORDING), "--url", url, "--one-word"], check=False)
        if streamed.returncode == 0:
            print(NEXT)
        return streamed.returncode
    finally:
        server.terminate()
        server.wait()


def _ready(url: str, server: subprocess.Popen[bytes]) -> bool:
    """Wait until the server answers that it is ready. False if it ends, or the time is up."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and server.poll() is None:
        try:
            if httpx.get(f"{url}/health/ready", timeout=1.0).is_success:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    return False


if __name__ == "__main__":
    sys.exit(main())
