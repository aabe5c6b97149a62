"""Every command that a page names exists, with its options. ``tests/e2e/pages`` runs those that it can."""

from __future__ import annotations

import argparse
import importlib
import re
import tomllib
from functools import cache
from pathlib import Path

import click
import typer

import hetsyn
from recipes.speech.__main__ import make_parser
from research.catalog import EXPERIMENTS
from research.commands import experiment
from tests.long.faults import __main__ as faults
from tests.long.hostile import __main__ as hostile
from tests.support.paths import DOCS, ROOT
from tests.support.repository.documents import PAGES, blocks, name_of, prose, sections

COMMAND = re.compile(
    r"^(hetsyn |python -m (?:benchmarks |research |recipes\.speech |tests\.long\.))([a-z_-][a-z0-9_-]*)(.*)$"
)
LONG = {"faults": faults, "hostile": hostile}


def texts(page: Path) -> list[str]:
    """Lines of a page's shell blocks, whole and with their variables, and what its prose has in backticks."""
    lines = []
    for block in blocks(page):
        if block.language == "sh":
            script = block.code.replace("\\\n", " ")
            for name, value in re.findall(r"^(\w+)=[\"'](.*)[\"']$", script, re.MULTILINE):
                script = script.replace(f"${name}", value)
            lines += [line.strip() for line in script.splitlines()]
    return lines + re.findall(r"`([^`]+)`", prose(page).replace("\n", " "))


def every_text() -> list[tuple[str, str]]:
    """The texts of all pages, with the page's name."""
    return [(name_of(page), text) for page in PAGES for text in texts(page)]


def options_of_hetsyn(name: str, rest: str) -> set[str]:
    """The options of a command, and of its subcommand if the words after it begin with one."""
    command = typer.main.get_command(
        getattr(importlib.import_module(hetsyn.SUBCOMMANDS[name].module), name.replace("-", "_"))
    )
    words = rest.split()
    if isinstance(command, click.Group | typer.core.TyperGroup):
        # train has a command that goes without its name
        command = command.commands.get(words[0] if words else "", command.commands.get("data", command))
    return {"--help"} | {option for each in command.params for option in (*each.opts, *each.secondary_opts)}


def options_of_recipe(name: str) -> set[str]:
    (commands,) = (each for each in make_parser()._actions if isinstance(each, argparse._SubParsersAction))
    return {option for each in commands.choices[name]._actions for option in each.option_strings}


@cache
def options_of_module(name: str) -> set[str]:
    if name in LONG:
        return set(re.findall(r"--[a-z-]+", LONG[name].make_parser().format_usage()))
    parser = argparse.ArgumentParser()
    importlib.import_module(f"benchmarks.{name}").add_arguments(parser)
    return {"--quick", "--smoke", "--json"} | set(re.findall(r"--[a-z-]+", parser.format_usage()))


def test_commands_and_their_options_exist() -> None:
    unknown = []
    for page, text in every_text():
        if (matched := COMMAND.match(text)) is None:
            continue
        program, name, rest = matched.groups()
        if program == "python -m research ":
            assert name in EXPERIMENTS or name.startswith("-"), f"{page}: {text}"
            known = {option for each in typer.main.get_command(experiment).params for option in each.opts} | {"--help"}
        elif program == "python -m recipes.speech ":
            known = options_of_recipe(name)
        else:
            known = options_of_hetsyn(name, rest) if program == "hetsyn " else options_of_module(name)
        if not set(re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)) <= known:
            unknown.append(f"{page}: {text}")
    assert not unknown


def test_extras_and_targets_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, text in every_text():
        for names in re.findall(r"'\.\[([a-z,]+)\]'", text):
            assert set(names.split(",")) <= set(extras), f"{page}: {text}"
        if text.startswith("make "):
            assert text.split()[1] in targets, f"{page}: {text}"
        assert "hetsyn[" not in text, f"{page}: {text}: the package is not on PyPI"
    table = sections(DOCS / "reference/commands.md")["Extras"]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(extras)
