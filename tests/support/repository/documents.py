"""The pages that people read, and what of them a test can follow: links, paths, commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import DOCS, ROOT

README = ROOT / "README.md"
PAGES = (
    README,
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "benchmarks/README.md",
    ROOT / "examples/README.md",
    ROOT / "models/README.md",
    ROOT / "recipes/speech/README.md",
    ROOT / "recipes/speech/results/README.md",
    ROOT / "research/README.md",
    ROOT / "research/settings.md",
    ROOT / "service/page/recordings/README.md",
    ROOT / "tests/long/README.md",
    *sorted(DOCS.rglob("*.md")),
)

OWN_NETWORKS = DOCS / "guides/own-networks.md"
# sections of that page that start in an empty folder each, and the label with which they end
ANSWERS = {
    "Sound": "low",
    "Spikes": "right",
    "Series of values": "slow",
    "A HetSyn network of your own": "second",
    "A HetSyn network of values": "fast",
    "A recurrent cell": "right",
    "A stateful ONNX model": "right",
    "A network in NIR": "second",
    "Examples": "second half",
}

_FENCE = re.compile(r"^(<!-- not run: \S.* -->\n\n)?```(\S*)\n((?s:.*?))^```$", re.MULTILINE)
_INDENTED = re.compile(r"(?<=\n\n) {4}[^\n]+(?:\n {4}[^\n]+)*")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: as the fence names it, empty where it names none.
        code: the lines between the fences.
        is_run: whether tests run it; if they do not, a comment above it says why.
    """

    language: str
    code: str
    is_run: bool


def typed(script: str, folder: Path, **environment: str) -> str:
    """What a shell prints for commands of a page, with this Python and this checkout.

    Args:
        script: of bash; it ends at the first command that fails, which fails the test.
        folder: in which it runs.
        environment: further variables.
    """
    functions = 'python() { "$PYTHON" "$@"; }; hetsyn() { python -m hetsyn "$@"; }'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{functions}\n{script}"],
        cwd=folder,
        env=os.environ | {"PYTHON": sys.executable} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def name_of(page: Path) -> str:
    """Path of a page within the repository."""
    return page.relative_to(ROOT).as_posix()


def sections(page: Path) -> dict[str, str]:
    """The text of each section of a page, by its heading."""
    return dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL))


def blocks(page: Path, leave_out: Iterable[str] = ()) -> list[Block]:
    """The fenced blocks of a page, but for those of some sections."""
    text = page.read_text()
    for heading in leave_out:
        text = text.replace(sections(page)[heading], "")
    return [Block(language, code, not comment) for comment, language, code in _FENCE.findall(text)]


def prose(page: Path) -> str:
    """A page without its fenced and indented blocks."""
    return _INDENTED.sub("", _FENCE.sub("", page.read_text()))


def links(page: Path) -> list[str]:
    """Targets of links and images."""
    return _LINK.findall(re.sub(r"`[^`]*`", "", prose(page)))


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)).lower().replace(" ", "-")
        for text in headings
    }


def paths(page: Path) -> list[str]:
    """Names in backticks that look like a file or a folder, such as ``docs/guides/`` or ``store/base.py``."""
    quoted = re.findall(r"`([^`\n]+)`", prose(page))
    return [
        text
        for text in quoted
        if re.fullmatch(r"[\w.-]+(?:/[\w.-]+)*(?:/|\.(?:py|cpp|hpp|cu|md|toml|yml|cfg|conf))", text)
    ]


def commands(script: str) -> list[str]:
    """The commands of a shell script: lines are taken together until the shell finds them complete."""
    found: list[str] = []
    pending = ""
    for line in script.splitlines():
        pending += line + "\n"
        if not pending.strip() or line.endswith("\\"):
            continue
        if subprocess.run(["bash", "-n"], input=pending, text=True, capture_output=True, check=False).returncode == 0:
            found.append(pending.strip())
            pending = ""
    if pending.strip():
        raise ValueError(f"the shell does not understand {pending!r}")
    return found
