"""``python -m docs.tables``: writes the tables of options and of the reply's members into the reference pages.

The options come from the commands themselves, and the members from ``hetsyn_client.results``.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import typer

from hetsyn_client.results import Classified, Reply, Says
from hetsyn_client.terminal.commands import stream
from service.commands.options import REMOVED
from service.commands.run import run
from service.commands.serve import serve

REFERENCE = Path(__file__).with_name("reference")
COMMANDS_PAGE = REFERENCE / "commands.md"
REPLY_PAGE = REFERENCE / "http-api.md"
COMMANDS = {"options of serve": [serve], "options of stream and run": [stream, run]}
MEMBERS = "members of a reply"


def option_table(commands: list[typer.Typer]) -> str:
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


def member_table() -> str:
    """Make the table of a reply's members. What the network says of an input comes first."""
    hints = get_type_hints(Reply, include_extras=True)
    rows = [
        f"| `{name}` | {says.text} |"
        for name in (*Classified.__annotations__, *(name for name in hints if name not in Classified.__annotations__))
        for says in _said(hints[name])
    ]
    return "\n".join(["| member | meaning |", "|---|---|", *rows])


def _said(hint: object) -> list[Says]:
    found = [part for part in getattr(hint, "__metadata__", ()) if isinstance(part, Says)]
    return found or [says for part in get_args(hint) for says in _said(part)]


def filled(page: Path) -> str:
    """Return the text of a page with the tables that it has marks for."""
    text = page.read_text()
    for name in (*COMMANDS, MEMBERS):
        before, mark, rest = text.partition(f"<!-- {name}: python -m docs.tables -->")
        if mark:
            table = member_table() if name == MEMBERS else option_table(COMMANDS[name])
            text = f"{before}{mark}\n\n{table}\n\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    return text


if __name__ == "__main__":
    for each in (COMMANDS_PAGE, REPLY_PAGE):
        each.write_text(filled(each))
