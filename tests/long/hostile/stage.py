"""The servers that a case attacks: those of one checkout, with what they take in memory and time."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from types import TracebackType

from tests.long.hostile.wire import Client
from tests.support.servers import changed_server
from tests.support.servers.server_process import CLOCK_TICKS, ServerError, free_port

READY_TIMEOUT_S = 40.0
POLL_S = 0.02
SLOW = {"HETSYN_OPERATORS": "off"}  # of a server: 20,000 steps of shd-size take it seconds
ADDRESS_SPACE_BYTES = 12 << 30  # no attack takes the machine
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Checkout:
    """A checkout whose server is attacked.

    Attributes:
        root: its folder.
        python: the interpreter that has its dependencies.
    """

    root: Path
    python: Path

    @classmethod
    def at(cls, root: Path) -> Checkout:
        """The checkout in a folder, with the environment that ``make install`` made there.

        Raises:
            SystemExit: there is none.
        """
        if not root.is_dir():
            raise SystemExit(f"there is no folder {root}: name that of the other checkout")
        python = root.resolve() / ".venv/bin/python"
        if not python.exists():
            raise SystemExit(f"{root} has no .venv/bin/python: run make install there")
        return cls(root.resolve(), python)

    @property
    def commit(self) -> str:
        """Short name of the commit; ``unknown`` outside git."""
        command = ["git", "-C", str(self.root), "rev-parse", "--short", "HEAD"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return found.stdout.strip() or "unknown"

    @property
    def models(self) -> Path:
        return self.root / "models"


CARRY_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="  # of all servers, to seal exported sessions


class AttackedServer:
    """``hetsyn serve`` of a checkout.

    Args:
        checkout: whose server it is.
        folder: its working directory, with its log.
        options: beside the port; ``--set`` as in ``changed_server``.
        models: the folder of models; by default that of the checkout.
        environment: variables beside those of this process.
    """

    def __init__(
        self,
        checkout: Checkout,
        folder: Path,
        options: Sequence[str] = (),
        models: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.folder = folder
        self.log = folder / f"server-{self.port}.log"
        command = [
            str(checkout.python), "-P", changed_server.__file__, "serve",
            "--models", str(models or checkout.models), "--port", str(self.port),
            "--device", "cpu", *options,
        ]  # fmt: skip
        variables = {
            "PYTHONPATH": str(checkout.root), "ORT_DISABLE_TELEMETRY": "1", "HETSYN_CARRY_KEYS": CARRY_KEY,
            **(environment or {}),
        }  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if sys.platform == "linux":
            limits = (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES)
            with suppress(ProcessLookupError):
                resource.prlimit(self.process.pid, resource.RLIMIT_AS, limits)

    def await_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until it is ready.

        Raises:
            ServerError: it ended, or took too long.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self.is_ready():
            if self.process.poll() is not None:
                raise ServerError(f"the server ended with {self.process.returncode}: {self.last_words()}")
            if time.monotonic() > deadline_s:
                raise ServerError(f"the server is not ready after {timeout_s:.0f} s: {self.last_words()}")
            time.sleep(POLL_S)

    def is_ready(self) -> bool:
        try:
            return Client(self.port, timeout_s=5.0).call("GET", "/health/ready").status == 200
        except (OSError, HTTPException):
            return False

    def rss_mib(self) -> float:
        return self._status_kib("VmRSS") / 1024

    def peak_mib(self) -> float:
        return self._status_kib("VmHWM") / 1024

    def reset_peak(self) -> None:
        """Begin the search for the peak anew, from what the process holds now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def metric(self, name: str, timeout_s: float = 30.0) -> float:
        """The sum of the values of a metric, over all its labels."""
        lines = Client(self.port, timeout_s=timeout_s).call("GET", "/metrics").body.decode().splitlines()
        values = [float(line.split()[-1]) for line in lines if line.partition(" ")[0].partition("{")[0] == name]
        if not values:
            raise ServerError(f"the server has no metric {name}")
        return sum(values)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, timeout_s: float = 20.0) -> float:
        """Send SIGTERM. The seconds until it ended; ``timeout_s`` if it had to be killed."""
        began_s = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return timeout_s
        return time.monotonic() - began_s

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def last_words(self) -> str:
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-400:] or "it printed nothing"

    def _status_kib(self, name: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
        raise ServerError(f"the server has ended: no {name}")


class Stage:
    """A context of one case on one side: its servers, which end with it.

    Attributes:
        checkout: whose server is attacked.
        folder: for everything that the case writes.
        is_quick: the case should be short.
    """

    def __init__(self, checkout: Checkout, folder: Path, *, is_quick: bool) -> None:
        self.checkout, self.folder, self.is_quick = checkout, folder, is_quick
        self._ends = ExitStack()

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def finally_call(self, end: Callable[[], object]) -> None:
        """Call this when the case ends, before what was registered earlier."""
        self._ends.callback(end)

    def server(
        self,
        *options: str,
        models: Path | None = None,
        environment: Mapping[str, str] | None = None,
        is_awaited: bool = True,
    ) -> AttackedServer:
        """Start a server, and wait until it is ready.

        Raises:
            ServerError: it does not start.
        """
        server = AttackedServer(self.checkout, self.folder, options, models, environment)
        self._ends.callback(server.kill)
        if is_awaited:
            server.await_ready()
        return server

    def has_option(self, name: str) -> bool:
        """Whether ``hetsyn serve`` of the checkout has an option."""
        field = name.removeprefix("--").replace("-", "_")
        # an older checkout has them as parameters of a command
        option = re.compile(rf"^    {field}: (Annotated\[|.* = option\()", re.MULTILINE)
        places = ("service/settings.py", "service/commands/serve.py", "service/commands.py")
        files = (self.checkout.root / path for path in places)
        return any(option.search(file.read_text()) for file in files if file.exists())
