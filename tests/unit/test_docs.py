"""The pages hold together: links lead somewhere, paths exist, every page is found from the README, which is short."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest
import typer

import hetsyn
from hetsyn_client.commands import stream
from service.commands.run import run
from service.commands.serve import serve
from tests.support.documents import LANGUAGES, PAGES, README, anchors, blocks, commands, links, name_of, paths, prose
from tests.support.paths import DOCS, ROOT

README_WORDS = (700, 900)
LONGEST_LINE = 121  # of prose and code; a table's row is one line
UNITS = {"": 1, "MiB": 1024**2, "GiB": 1024**3}
PACKAGES = ("", "service", "hetsyn_model", "hetsyn_client", "hetsyn_client/loadtest", "service/runtime/operators")
# made by a command of the pages, or of another project
NOT_OURS = {"spikes/times", "extra/keys"}

each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        target, _, anchor = link.partition("#")
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), f"{name_of(page)}: {link}: no such file"
        assert found.is_relative_to(ROOT), f"{name_of(page)}: {link}: outside the repository"
        if anchor:
            assert anchor in anchors(found), f"{name_of(page)}: {link}: no such heading"


@each_page
def test_paths_exist(page: Path) -> None:
    for path in paths(page):
        if path in NOT_OURS or path.startswith(("runs/", "build/", "dist/", "NAME/")):
            continue
        folders = [page.parent, *(ROOT / package for package in PACKAGES)]
        is_here = any((folder / path).exists() for folder in folders)
        is_name = "/" not in path and any(ROOT.glob(f"[!.]*/**/{path}"))
        assert is_here or is_name, f"{name_of(page)}: `{path}`: no such file"


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


def test_the_readme_is_for_somebody_in_a_hurry() -> None:
    text = re.sub(r"\]\([^)]*\)", "]", prose(README))
    words = [word for word in text.split() if re.search(r"\w", word)]
    assert README_WORDS[0] <= len(words) <= len(prose(README).split()) <= README_WORDS[1]
    first_screen = README.read_text().splitlines()[:40]
    assert "make demo" in first_screen


@each_page
def test_blocks_say_their_language(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= set(LANGUAGES), name_of(page)
    assert not re.search(r"\n\n {4}(?![-*\s|])\S.*\n", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M))


@each_page
def test_lines_are_short(page: Path) -> None:
    if page.name == "experiments.md":
        return  # generated
    lines = page.read_text().splitlines()
    long = [
        line for line in lines if len(line) > LONGEST_LINE and not line.lstrip().startswith("|") and "](" not in line
    ]
    assert not long, name_of(page)


@each_page
def test_an_installation_from_a_checkout_is_editable(page: Path) -> None:
    """Without ``-e``, a program that runs in the checkout finds its packages, which have no C++ libraries."""
    assert not re.findall(r"pip install '?\.\S*", page.read_text()), name_of(page)


def test_the_commands_page_lists_every_command() -> None:
    listed = set(re.findall(r"`hetsyn ([\w-]+)", (DOCS / "reference/commands.md").read_text()))
    assert listed == set(hetsyn.SUBCOMMANDS)


def test_the_commands_page_lists_every_option_of_serve_with_its_default() -> None:
    _, _, section = (DOCS / "reference/commands.md").read_text().partition("\n## `hetsyn serve`\n")
    rows = re.findall(r"^\| `(--[a-z-]+)[^`]*` \|([^|]*)\|", section, re.MULTILINE)
    listed = {name: _default(text.strip(" `")) for name, text in rows}
    options = [each for each in typer.main.get_command(serve).params if not getattr(each, "hidden", False)]
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
    number, _, unit = value.replace(",", "").partition(" ")
    if re.fullmatch(r"\d+(\.\d+)?", number) and unit in UNITS:
        return float(number) * UNITS[unit]
    return value


def test_the_glossary_is_in_order() -> None:
    words = re.findall(r"^\| \*\*([^*]+)\*\*", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    assert len(words) == len(set(words)) > 12
    assert words == sorted(words, key=str.lower)


def test_commands_are_taken_apart_as_the_shell_does() -> None:
    script = "a=1\nfor i in 1 2; do\n    echo $i\ndone\nprintf x |\n  cat -\ncurl 'http://x?a=b' \\\n  -d '{\n}'\n"
    assert commands(script) == [
        "a=1", "for i in 1 2; do\n    echo $i\ndone", "printf x |\n  cat -", "curl 'http://x?a=b' \\\n  -d '{\n}'",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="does not understand"):
        commands("for i in 1 2; do\n")
