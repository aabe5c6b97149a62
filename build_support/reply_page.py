"""``python -m build_support.reply_page``: the table of a reply in docs/reference/http-api.md, from its type."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

from hetsyn_client.results import Classified, Reply, Says

PAGE = Path(__file__).resolve().parents[1] / "docs/reference/http-api.md"
BEGIN, END = "<!-- members of a reply: python -m build_support.reply_page -->", "<!-- end -->"


def table() -> str:
    """Make the table, with what the network says of an input first."""
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


def filled(page: str) -> str:
    """Put the table between the page's marks."""
    before, mark, rest = page.partition(BEGIN)
    return f"{before}{mark}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
