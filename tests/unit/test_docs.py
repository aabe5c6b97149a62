"""The pages hold together: links lead somewhere, paths exist, every page is found from the README."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache
from pathlib import Path

import pytest
import typer

import hetsyn
from hetsyn_client.commands import stream
from service.commands.options import REMOVED
from service.commands.run import run
from service.commands.serve import serve
from tests.support.documents import PAGES, README, anchors, commands, links, name_of, paths
from tests.support.paths import DOCS, ROOT

UNITS = {"": 1, "MiB": 1024**2, "GiB": 1024**3}
PACKAGES = ("", "service", "hetsyn_model", "hetsyn_client", "hetsyn_client/loadtest", "service/runtime/operators")
# made by a command of the pages, or of another project
NOT_OURS = {".venv/", "spikes/times", "extra/keys"}


def test_links_lead_somewhere() -> None:
    anchors_of, wrong = cache(anchors), []
    for page in PAGES:
        for link in links(page):
            if link.startswith(("http://", "https://")):
                continue
            target, _, anchor = link.partition("#")
            found = (page.parent / target).resolve() if target else page
            if not found.exists():
                wrong.append(f"{name_of(page)}: {link}: no such file")
            elif not found.is_relative_to(ROOT):
                wrong.append(f"{name_of(page)}: {link}: outside the repository")
            elif anchor and anchor not in anchors_of(found):
                wrong.append(f"{name_of(page)}: {link}: no such heading")
    assert not wrong


def test_paths_exist() -> None:
    tops = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    names = {path.name for top in tops for path in top.rglob("*")}
    missing = []
    for page in PAGES:
        folders = [page.parent, *(ROOT / package for package in PACKAGES)]
        for path in paths(page):
            if path in NOT_OURS or path.startswith(("runs/", "build/", "dist/", "NAME/")):
                continue
            if path not in names and not any((folder / path).exists() for folder in folders):
                missing.append(f"{name_of(page)}: `{path}`: no such file")
    assert not missing


def test_every_page_is_found_from_the_readme() -> None:
    found: set[Path] = set()
    waiting = [README]
    while waiting:
        page = waiting.pop()
        if page in found:
            continue
        found.add(page)
        targets = ((page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link)
        waiting += [target for target in targets if target.suffix == ".md"]
    assert set(PAGES) <= found


def test_pages_are_sorted_by_their_reader() -> None:
    guides, reference, explanation = (
        re.findall(rf"\]\((docs/{folder}/[\w-]+\.md)\)", README.read_text())
        for folder in ("guides", "reference", "explanation")
    )
    sorted_pages = {
        name_of(path) for folder in ("guides", "reference", "explanation") for path in (DOCS / folder).glob("*.md")
    }
    assert {*guides, *reference, *explanation} == sorted_pages


def test_the_commands_page_lists_every_command() -> None:
    listed = set(re.findall(r"`hetsyn ([\w-]+)", (DOCS / "reference/commands.md").read_text()))
    assert listed == set(hetsyn.SUBCOMMANDS)


def test_the_commands_page_lists_every_option_of_serve_with_its_default() -> None:
    _, _, section = (DOCS / "reference/commands.md").read_text().partition("\n## `hetsyn serve`\n")
    rows = re.findall(r"^\| `(--[a-z-]+)[^`]*` \|([^|]*)\|", section.partition("\n## ")[0], re.MULTILINE)
    listed = {name: _default(text.strip(" `")) for name, text in rows}
    known = {*REMOVED, "--help-all"}
    options = [each for each in typer.main.get_command(serve).params if each.opts[0] not in known]
    assert listed == {each.opts[0]: _default(each.default) for each in options}


@pytest.mark.parametrize("command", [stream, run], ids=["stream", "run"])
def test_the_commands_page_lists_every_option_of_stream_and_run(command: typer.Typer) -> None:
    _, _, rest = (DOCS / "reference/commands.md").read_text().partition("\n## `hetsyn stream` and `hetsyn run`\n")
    rows = re.findall(r"^\| (`--[^|]*)\|", rest.partition("\n## ")[0], re.MULTILINE)
    listed = {option for row in rows for option in re.findall(r"--[a-z-]+", row)}
    params = typer.main.get_command(command).params
    options = {option for each in params for option in (*each.opts, *each.secondary_opts) if option.startswith("--")}
    of_server = {"--model", "--url", "--key", "--header", "--ca-file"}
    of_other = {"--models", "--form"} if command is stream else of_server
    assert listed - of_other == options - {"--help"}


def _default(value: object) -> object:
    """A default in one way of writing, of the page or of the command."""
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str):
        return "" if value is None or value is False else value
    number, _, unit = re.sub(r"(?<=\d)(?=[KMG]iB)", " ", value.replace(",", "")).partition(" ")
    if re.fullmatch(r"\d+(\.\d+)?", number) and unit in UNITS:
        return float(number) * UNITS[unit]
    return value


def test_commands_are_taken_apart_as_the_shell_does() -> None:
    script = "a=1\nfor i in 1 2; do\n    echo $i\ndone\nprintf x |\n  cat -\ncurl 'http://x?a=b' \\\n  -d '{\n}'\n"
    assert commands(script) == [
        "a=1", "for i in 1 2; do\n    echo $i\ndone", "printf x |\n  cat -", "curl 'http://x?a=b' \\\n  -d '{\n}'",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="does not understand"):
        commands("for i in 1 2; do\n")
