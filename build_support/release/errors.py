"""What ends a release, and the processes that it starts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

TAIL_LINES = 15
# variables that would make a build or a trial depend on the machine
_CHANCE = ("CXX", "CXXFLAGS", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class ReleaseError(Exception):
    """There is no release; the message is one sentence that says what to do."""


def environment(**variables: str) -> dict[str, str]:
    """This process's variables without those that steer our builds and servers, and these ones."""
    kept = {name: text for name, text in os.environ.items() if name not in _CHANCE and not name.startswith("HETSYN_")}
    return kept | variables


def run(
    command: Sequence[object], failure: str, *, variables: Mapping[str, str] | None = None, stdin: bytes = b""
) -> str:
    """Run a program, and return what it prints.

    Args:
        command: program and arguments, as text or paths.
        failure: the sentence if it fails; the last lines of its output follow.
        variables: its whole environment; by default ``environment()``.
        stdin: its input.

    Raises:
        ReleaseError: it failed.
    """
    done = subprocess.run(
        [str(word) for word in command],
        env=environment() if variables is None else dict(variables),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    printed = done.stdout.decode(errors="replace")
    if done.returncode:
        raise ReleaseError(f"{failure}\n" + "\n".join(printed.strip().splitlines()[-TAIL_LINES:]))
    return printed
