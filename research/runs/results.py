"""Results: a compressed table an experiment in the repository, for the report."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hetsyn_model.run_folder import RunError, replace_file
from research.runs.run import RunSpec

RESULTS = Path(__file__).resolve().parents[1] / "results"  # the repository's
TABLE = ".json.gz"  # ends the name of an experiment's table: a JSON list of results, one a line


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        run: its description (:meth:`research.runs.run.RunSpec.to_dict`).
        metric: ``accuracy`` or ``mse``.
        figure: on test data; of a search on validation data.
        loss: on the same data.
        validation: figure of the chosen evaluation.
        validation_loss: loss of the chosen evaluation.
        chosen_update: update of the chosen evaluation.
        firing_hz: mean rate of the hidden neurons in training.
        parameters: number of values that training changes.
        bank_sizes: decays of each layer's bank.
        kernel_error: relative L2 error of the worst kernel.
        state_bytes: of one stream, by form.
        seconds: processor time of the training.
        machine: that it was trained on.
        curve: [update, loss, validation figure] of some evaluations.
        analysis: see :func:`research.runs.analysis.analyse`.
        exact: ``figure`` and ``loss`` of the exact form on the same test data, and its ``streams``; empty for a search
            and results from before it was measured.
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
    exact: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, bool, float, float, float, int]:
        run = self.run
        return (
            *(run["experiment"], run["condition"], run["model"], run["recurrent"]),
            *(run["learning_rate"], run["tau_steps"], run["training"]["decay_rate_factor"], run["seed"]),
        )

    def is_of(self, run: RunSpec) -> bool:
        """Return whether it is a run's result. Settings that came later are in neither if they have their defaults."""
        return identity(self.run) == identity(run.to_dict())


def identity(run: dict[str, Any]) -> str:
    """Write a described run (:meth:`RunSpec.to_dict`) as text, with numbers rounded as in a result."""
    return json.dumps(rounded(run), sort_keys=True)


def add_to_file(results: Iterable[RunResult], path: Path) -> None:
    """Add an experiment's results to its table, in an order that does not depend on how they came about.

    The same results give the same bytes.

    Other results in the file stay: those of other machines, of a process that runs at the same time, and of seeds that
    are not in the plan.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):  # from reading to writing
        kept = {(result.key, identity(result.run)): result for result in (*read_file(path), *results)}
        lines = [json.dumps(rounded(vars(kept[run])), sort_keys=True) for run in sorted(kept)]
        text = "[\n" + ",\n".join(lines) + "\n]\n"
        replace_file(path, gzip.compress(text.encode(), mtime=0))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of here for the same folder. A killed process lets go."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_file(path: Path) -> list[RunResult]:
    """Read the results of one file; none if there is no file yet.

    Raises:
        RunError: the file is damaged.
    """
    if not path.exists():
        return []
    try:
        found = [RunResult(**values) for values in json.loads(gzip.decompress(path.read_bytes()))]
        for result in found:
            hash(result.key)
    except (OSError, ValueError, TypeError, KeyError, EOFError, zlib.error) as error:
        raise RunError(
            f"{path}: not a list of results ({error}): take the file of an earlier commit, or move it away"
        ) from error
    return found


def rounded(value: Any, digits: int = 6) -> Any:
    """Round numbers to this number of significant digits; the rest stays as it is."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: rounded(part, digits) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part, digits) for part in value]
    return value
