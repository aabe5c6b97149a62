"""The pages hold together: links lead somewhere, paths exist, every page is in the navigation."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import hetsyn
from docs.tables import COMMANDS, COMMANDS_PAGE, REPLY_PAGE, filled, member_table, option_table
from tests.support.paths import ROOT
from tests.support.repository.documents import PAGES, anchors, blocks, links, name_of, paths

PACKAGES = ("", "service", "hetsyn_model", "hetsyn_client", "hetsyn_client/loadtest", "service/runtime/operators")
COMMAND = r"^(?:hetsyn|python|pip|curl|docker|kubectl|make) .*$"
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


def test_every_package_says_what_it_is() -> None:
    silent = [
        str(first.relative_to(ROOT))
        for package in ("service", "hetsyn_client", "hetsyn_model", "export", "research", "recipes", "benchmarks")
        for first in (ROOT / package).rglob("__init__.py")
        if "tests" not in first.parts[len(ROOT.parts) :] and not first.read_text().startswith('"""')
    ]
    assert not silent, "begin these with a sentence that says what the folder is"


PATCHES = {"tests/mutants", "tests/mutants/simulated", "tests/mutants/unseen", "tests/mutants/fresh"}


def test_a_folder_has_at_most_fifteen_files() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    counts = Counter(parent for name in listed.splitlines() if str(parent := Path(name).parent) != ".")
    # collections of alike data: patches, and results of runs
    crowded = {str(parent) for parent, count in counts.items() if count > 15} - PATCHES - {"benchmarks/results"}
    assert not {name for name in crowded if not name.startswith("recipes/speech/results/")}


def test_the_pages_can_be_read_in_a_day() -> None:
    words = {name_of(page): len(page.read_text().split()) for page in PAGES}
    assert 500 <= words["README.md"] <= 700
    of_docs = sum(count for name, count in words.items() if name.startswith("docs/"))
    assert of_docs + words["README.md"] + words["CHANGELOG.md"] <= 44_000, "say it in fewer words, or leave a page out"


def test_other_pages_have_the_figures_of_the_digits_model_card() -> None:
    card = (ROOT / "models/README.md").read_text().partition("**`speech-digits`**")[2]
    right, named = re.findall(r"\| as recorded \|[^|]*\| ([\d.]+%) \|[^|]*\| ([\d.]+%) \|", card)[0]
    never_trained = re.findall(r"Of words that nobody trained on ([\d.]+%) named", card)[0]
    assert f"{right} named and right; {named} of other words named" in (ROOT / "README.md").read_text()
    said = f"takes {named} of other words for a digit; of words that were not in its training, {never_trained}."
    assert said in (ROOT / "docs/tutorial.md").read_text()


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    listed = re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(name_of(page) for page in PAGES)


def test_the_commands_page_lists_every_command() -> None:
    listed = set(re.findall(r"`hetsyn ([\w-]+)", COMMANDS_PAGE.read_text()))
    assert listed == set(hetsyn.SUBCOMMANDS)


def test_the_reference_has_the_options_and_members_of_the_program() -> None:
    commands, reply = COMMANDS_PAGE.read_text(), REPLY_PAGE.read_text()
    assert (filled(COMMANDS_PAGE), filled(REPLY_PAGE)) == (commands, reply), "run: python -m docs.tables"
    assert all(commands.count(option_table(each)) == 1 for each in COMMANDS.values())
    assert reply.count(member_table()) == 1
    assert "| `--max-sessions` | `10,000` |" in commands
    assert "| `total_steps` | network steps of the session so far |" in reply


def test_a_block_that_no_test_runs_says_why() -> None:
    for page in PAGES:
        assert {block.language for block in blocks(page) if not block.is_run} <= {"shell", "python"}, name_of(page)
        assert not [block for block in blocks(page) if block.is_run and block.language == "shell"], name_of(page)
        texts = [block.code for block in blocks(page) if block.language == "text"]
        assert not re.findall(COMMAND, "\n".join(texts), re.MULTILINE), f"{name_of(page)}: mark it as sh or shell"
