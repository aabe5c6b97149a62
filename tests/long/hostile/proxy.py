"""HAProxy with the configuration of ``docker/``, in front of servers on this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

from tests.long.hostile.case import Skipped
from tests.long.hostile.stage import POLL_S, READY_TIMEOUT_S, Stage
from tests.long.hostile.wire import Client
from tests.support.servers.server_process import ServerError, free_port
from tests.support.tools import NO_HAPROXY

PROGRAM = "haproxy"


def configuration(text: str, port: int, servers: Sequence[int], replaced: Mapping[str, str]) -> str:
    """The configuration with these servers, in place of those that Docker's DNS has and those of the guide.

    Args:
        text: of ``docker/haproxy.cfg``.
        port: to listen on.
        servers: ports of the servers.
        replaced: patterns of other texts, which have to be in it, and what stands in their place.

    Raises:
        ValueError: a text is not in the configuration.
    """
    text = re.sub(r"^resolvers .*?(?=^\S)", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^frontend metrics.*?(?=^\S|\Z)", "", text, flags=re.MULTILINE | re.DOTALL)
    names = "".join(f"    server api{n} 127.0.0.1:{each}\n" for n, each in enumerate(servers))
    shipped = r"^(\.if .*\n)? +server-template .*\n(\.else\n( +server .*\n)+\.endif\n)?"  # an older one has no choice
    text, found = re.subn(shipped, names, text, flags=re.MULTILINE)
    if found != 1:
        raise ValueError("the configuration has no line server-template")
    for old, new in {r"bind \S*:8000\b\"?": f"bind 127.0.0.1:{port}", **replaced}.items():
        text, found = re.subn(old, new, text)
        if not found:
            raise ValueError(f"the configuration has no {old!r}")
    return text


def start_proxy(stage: Stage, servers: Sequence[int], replaced: Mapping[str, str] | None = None) -> int:
    """Start the proxy; it ends with the stage. Its port.

    Raises:
        Skipped: no such program on this machine.
        ServerError: it does not start.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise Skipped(NO_HAPROXY)
    port = free_port()
    text = (stage.checkout.root / "docker/haproxy.cfg").read_text()
    file, log = stage.folder / "haproxy.cfg", stage.folder / "haproxy.log"
    file.write_text(configuration(text, port, servers, replaced or {}))
    with log.open("wb") as output:
        process = subprocess.Popen([program, "-db", "-f", str(file)], cwd=stage.folder, stdout=output, stderr=output)

    def end() -> None:
        process.kill()
        process.wait()

    stage.finally_call(end)
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while not _passes(port):
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise ServerError(f"haproxy does not start: {_last_words(log)}")
        time.sleep(POLL_S)
    return port


def _passes(port: int) -> bool:
    try:
        return Client(port, timeout_s=2.0).call("GET", "/health/ready").status == 200
    except (OSError, HTTPException):
        return False


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-400:]
