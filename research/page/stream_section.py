"""What the report says of the experiments with streams of a sensor."""

from __future__ import annotations

from collections.abc import Sequence

from research.claims.tables import table
from research.claims.wording import spread
from research.runs.names import NAMES
from research.runs.results import RunResult

ABOUT = {
    "motion": "Not in the paper: a watch's accelerometer and gyroscope, 50 Hz, during seven shoulder exercises of ten "
    "people (seglearn). Each of ten seeds leaves out one person, and the next one chooses the update. A stream is a "
    "window of three seconds from the initial state. The reset has the same time constant in all models. Spikes are "
    "deleted and time is warped for the neuron models only. The LSTM "
    'takes the scaled values, or the same spikes ("on-spikes"), and has at most as many trained values as the HetSyn '
    "network. The settings of a person come from a search without that person: search 1000 is that of even seeds, "
    "1001 that of odd ones. On unseen people, the authors of the recordings report 87.3% for the best of four "
    "classifiers with ten people, and 88.9% with twenty (arXiv 1802.01489, first and second version), on windows and "
    "a division of their own.",
    "mnist1d": "Not in the paper: digits as noisy series of 40 values, 4,000 to train and 1,000 to test. The seed "
    "chooses 500 of the 4,000 that choose the update. The last ten steps count for the decision. The "
    "reset has the same time constant in all models. The LSTM takes the scaled values, and has at most as "
    "many trained values as the HetSyn network. The authors report 68% for a multilayer perceptron, 91% for a GRU and "
    "94% for a convolutional network, trained in their own way (arXiv 2011.14439).",
}


def stream_table(results: Sequence[RunResult]) -> str:
    """Windows from the initial state, windows within a recording, and whole recordings; nothing without results."""
    by_model: dict[str, list[RunResult]] = {}
    for result in results:
        by_model.setdefault(result.run["model"], []).append(result)
    rows = [
        (
            NAMES[model],
            spread("accuracy", [r.figure for r in group]),
            *(spread("accuracy", [r.analysis["stream"][name] for r in group]) for name in ("windows", "whole")),
        )
        for model, group in by_model.items()
    ]
    head = ("model", "windows, from the initial state", "windows within a recording", "whole recordings")
    return table(head, rows) + "\n" if rows else ""
