"""``python -m build_support.commands_page``: the tables of options in docs/reference/commands.md, from the program."""

from __future__ import annotations

from pathlib import Path

import typer

from hetsyn_client.terminal.commands import stream
from service.commands.options import REMOVED
from service.commands.run import run
from service.commands.serve import serve

PAGE = Path(__file__).resolve().parents[1] / "docs/reference/commands.md"
COMMANDS = {"serve": [serve], "stream and run": [stream, run]}


def table(commands: list[typer.Typer]) -> str:
    """Make the table of the options of commands, each option once."""
    rows: dict[str, str] = {}
    for each in (one for command in commands for one in typer.main.get_command(command).params):
        if each.param_type_name == "option" and each.opts[0] not in {*REMOVED, "--help-all"}:
            names = ", ".join(f"`{name}`" for name in (*each.opts, *each.secondary_opts))
            default = "" if each.default is None or each.default is False else f"`{_written(each.default)}`"
            variable = f" Also `{each.envvar}` in the environment." if each.envvar else ""
            rows.setdefault(names, f"| {names} | {default} | {getattr(each, 'help', '')}{variable} |")
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows.values()])


def _written(default: object) -> str:
    return f"{default:,.10g}" if isinstance(default, int | float) else str(default)


def filled(page: str) -> str:
    """Put the tables between the page's marks."""
    for name, commands in COMMANDS.items():
        begin, end = f"<!-- options of {name}: python -m build_support.commands_page -->", "<!-- end -->"
        before, mark, rest = page.partition(begin)
        page = f"{before}{mark}\n\n{table(commands)}\n\n{end}{rest.partition(end)[2]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
