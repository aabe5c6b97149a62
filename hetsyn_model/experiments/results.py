"""Results as JSON: one file a run in its folder, one file an experiment to keep, which the report reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULT = "result.json"
KEPT = Path("benchmarks/results/experiments")  # in the repository


@dataclass(frozen=True)
class Result:
    """A finished run.

    run: its description (:meth:`RunSpec.to_dict`). figure: of the test data. validation: of the chosen evaluation.
    machine: what the seconds were measured on. analysis: see :func:`hetsyn_model.experiments.claims.analyse`.
    """

    run: dict[str, Any]
    metric: str
    figure: float
    loss: float
    validation: float
    validation_loss: float
    chosen_update: int
    firing_hz: float
    parameters: int
    bank_sizes: dict[str, int]
    kernel_error: float
    state_bytes: dict[str, int]
    seconds: float
    machine: str
    curve: list[list[float]]
    analysis: dict[str, Any]

    @property
    def key(self) -> tuple[str, str, str, bool, float, float, int]:
        run = self.run
        return (
            *(run["experiment"], run["condition"], run["model"], run["recurrent"]),
            *(run["learning_rate"], run["tau_steps"], run["seed"]),
        )


def write_result(folder: Path, result: Result) -> Result:
    """The result as it will be read again: with the digits that are kept."""
    values = rounded(vars(result))
    _replace(folder / RESULT, json.dumps(values, indent=1, sort_keys=True) + "\n")
    return Result(**values)


def read_result(folder: Path) -> Result | None:
    """None where the run has not finished."""
    path = folder / RESULT
    return Result(**json.loads(path.read_text())) if path.exists() else None


def keep(results: Iterable[Result], path: Path) -> None:
    """All results of an experiment, one a line, in an order that does not depend on how they came about."""
    lines = [json.dumps(rounded(vars(result)), sort_keys=True) for result in sorted(results, key=lambda r: r.key)]
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, "[\n" + ",\n".join(lines) + "\n]\n")


def read_kept(folder: Path) -> list[Result]:
    """Every result of a folder of kept files, sorted."""
    found = [Result(**values) for path in sorted(folder.glob("*.json")) for values in json.loads(path.read_text())]
    return sorted(found, key=lambda result: result.key)


def rounded(value: Any, digits: int = 6) -> Any:
    """Numbers with so many significant digits; the rest as it is."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: rounded(part, digits) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part, digits) for part in value]
    return value


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(path)
