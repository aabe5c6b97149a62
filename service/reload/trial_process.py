"""Loads and tests models in a process of their own first. A graph can end the process that loads it.

ONNX Runtime computes constant parts of a graph when it loads it. A division of -2^63 by -1 among them ends the process
with SIGFPE, a graph that doubles its tensor forty times takes all memory, and functions that call each other never end.
In this process each of them becomes an error message. Linux kills this process first if memory runs out.

The server writes a line with a folder, and reads a line with the error or null. The process ends with its input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from math import ceil
from pathlib import Path

from service.engine.engine import Engine
from service.errors import ArtifactError, HetsynError
from service.models.catalog import ModelCatalog
from service.reload.smoke_test import smoke_test
from service.settings import Limits

GRACE_S = 2.0  # for the server to end the process, before it ends itself
FIRST_TO_GO = "1000"  # for /proc/self/oom_score_adj


class TrialProcess:
    """A process that loads and tests models, one at a time. It starts with the first model, and after each crash.

    Args:
        load_timeout_s: time limit for each model. The process ends itself a little later, should the server not end it.
    """

    def __init__(self, max_model_bytes: int, load_timeout_s: float) -> None:
        self._arguments = str(max_model_bytes), str(ceil(load_timeout_s + GRACE_S))
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def check(self, path: Path) -> None:
        """Load and test the model of a folder. Has no time limit; ``stop`` ends it.

        Raises:
            ArtifactError: it cannot be used, or it has ended the process.
        """
        process = self._started()
        answer = ""
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except (OSError, ValueError):  # it has ended; a ValueError if ``stop`` has closed its pipes
            pass
        if not answer:
            ended = _wait(process)
            self.stop()
            raise ArtifactError(
                f"{path}: has ended the process that tested it ({ended}), so it is not served: export the model again "
                "with a matching hetsyn, or leave it out"
            )
        error = json.loads(answer)
        if error is not None:
            raise ArtifactError(error)

    def stop(self) -> None:
        """End the process, from any thread."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # its unwritten input
                        pipe.close()

    def _started(self) -> subprocess.Popen[str]:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __name__, *self._arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            return self._process


def _wait(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a process, and describe it."""
    code = process.wait()
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def main() -> None:
    """Test each folder that standard input names, and write the error or null."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; the server ends this process
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    max_model_bytes, most_s = map(int, sys.argv[1:])
    engine = Engine(Limits.max_chunk_steps)
    for line in sys.stdin:
        if hasattr(signal, "alarm"):
            signal.alarm(most_s)  # nobody catches it, so it ends what runs
        path = Path(line.removesuffix("\n"))
        catalog = ModelCatalog(path.parent.parent, is_empty=True, max_model_bytes=max_model_bytes)
        error: str | None = None
        try:
            smoke_test(catalog.open(path), engine)
        except HetsynError as failure:
            error = str(failure)
        except Exception as failure:  # a damaged graph may raise anything
            error = f"{path}: cannot be used ({type(failure).__name__}: {failure!s:.500}): export the model again"
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        answers.write(json.dumps(error) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
