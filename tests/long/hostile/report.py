"""The results of a run: as JSON values, as a table on the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.long.hostile.case import FIRST_COMMIT, Case, Figure, Measured, Verdict

COLUMNS = ("first", "before", "after")


def summary(
    cases: Sequence[Case],
    commits: Mapping[str, str],
    measured: Mapping[str, Mapping[str, Measured]],
    kept: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The results as JSON values.

    Args:
        commits: of the checkouts, by side.
        measured: by side and case.
        kept: results of an earlier run, for the column ``before`` of cases without one.
    """
    commits = dict(commits)
    earlier = {} if kept is None else {one["name"]: one["before"] for one in kept["cases"] if "before" in one}
    if earlier and kept is not None:
        commits.setdefault("before", kept["commits"].get("before", "unknown"))
    rows = []
    for case in cases:
        row: dict[str, Any] = {
            "name": case.name,
            "defect": case.defect,
            "bounds": {name: str(bound) for name, bound in case.bounds.items()},
            "first": dict(case.first),
        }
        for side, results in measured.items():
            one = results[case.name]
            row[side] = {
                "verdict": str(one.verdict), "figures": dict(one.figures), "seconds": round(one.seconds, 1),
                "reason": one.reason,
            }  # fmt: skip
        if "before" not in row and case.name in earlier:
            row["before"] = earlier[case.name]
        rows.append(row)
    broken = [row["name"] for row in rows if row["after"]["verdict"] == Verdict.broken]
    return {"passed": not broken, "broken": broken, "commits": {"first": FIRST_COMMIT, **commits}, "cases": rows}


def print_results(results: Mapping[str, Any]) -> None:
    console = Console(width=160, highlight=False)
    table = Table("case", "figure", "bound", *_headings(results), "verdict")
    for row in results["cases"]:
        for number, cells in enumerate(_rows(row)):
            table.add_row(*cells, end_section=number == len(_rows(row)) - 1)
    console.print(table)
    for row in results["cases"]:
        for side in COLUMNS[1:]:
            if row.get(side, {}).get("reason"):
                console.print(f"{row['name']}, {side}: {row[side]['verdict']}: {row[side]['reason']}", markup=False)
    counts = {verdict: sum(row["after"]["verdict"] == verdict for row in results["cases"]) for verdict in Verdict}
    console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    console.print("passed" if results["passed"] else f"NOT PASSED: {', '.join(results['broken'])}")


def write_markdown(results: Mapping[str, Any], path: Path) -> None:
    """The table as Markdown, with the sentence of each case."""
    lines = [
        f"| case | figure | bound | {' | '.join(_headings(results))} | verdict |",
        f"|{'---|' * (4 + len(COLUMNS))}",
        *("| " + " | ".join(cells) + " |" for row in results["cases"] for cells in _rows(row)),
        "",
        *(f"- `{row['name']}`: {row['defect']}" for row in results["cases"]),
    ]
    path.write_text("\n".join(lines) + "\n")


def _headings(results: Mapping[str, Any]) -> list[str]:
    return [f"{column} {results['commits'].get(column, '')}".strip() for column in COLUMNS]


def _rows(row: Mapping[str, Any]) -> list[list[str]]:
    """The lines of a case: one a figure; the first has its name and its verdicts."""
    sides = {side: row[side] for side in COLUMNS[1:] if side in row}
    figures: dict[str, None] = dict.fromkeys(row["bounds"])
    for found in (*(one["figures"] for one in sides.values()), row["first"]):
        figures.update(dict.fromkeys(found))
    verdict = " → ".join(one["verdict"] for one in sides.values())
    lines = []
    for name in figures or {"": None}:
        cells = [_text(row["first"].get(name))] + [
            _text(sides[side]["figures"].get(name)) if side in sides else "" for side in COLUMNS[1:]
        ]
        lines.append(["", name, row["bounds"].get(name, ""), *cells, ""])
    lines[0][0], lines[0][-1] = row["name"], verdict
    return lines


def _text(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if isinstance(figure, str):
        return figure
    return f"{figure:,.4g}" if isinstance(figure, float) and abs(figure) < 1000 else f"{figure:,.0f}"
