"""Networks of other libraries give their own spike counts when they are served; each library where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.support.tools import NO_NIR

pytest.importorskip("nir", reason=NO_NIR)
pytest.importorskip("onnxscript", reason="torch exports ONNX with onnxscript: pip install onnxscript")

from benchmarks.libraries import LIBRARIES, prove
from benchmarks.libraries.networks import CASES
from benchmarks.libraries.task import CLASSES, STEPS, streams

# one without and one with recurrence, of each library
CHOSEN = [
    *(("snntorch", "Leaky"), ("snntorch", "RSynaptic"), ("norse", "LIFCell"), ("norse", "LIFRecurrentCell")),
    *(("spikingjelly", "ParametricLIFNode"), ("spikingjelly", "LinearRecurrentContainer of LIFNode")),
    *(("sinabs", "LIF"), ("sinabs", "LIFRecurrent, SingleSpike")),
]


MISSING = sorted({library for library, _ in CHOSEN if importlib.util.find_spec(library) is None})


@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_their_spike_counts_are_their_own(tmp_path: Path) -> None:
    chosen = [case for case in CHOSEN if case[0] not in MISSING]
    for number, (library, name) in enumerate(chosen):
        (folder := tmp_path / str(number)).mkdir()
        found = prove(library, name, 4, folder, count=32)
        assert found["spikes"] > 0, name
        assert (found["differ"], found["differ_served"]) == (0, 0), found
        assert found["verdict"].startswith("faithful: 0 of ")
    if MISSING:
        pytest.skip(f"not compared with our import of their networks: {', '.join(MISSING)}")


def test_every_library_has_networks() -> None:
    assert set(CASES) == set(LIBRARIES)
    assert {name for name, _ in CHOSEN} == set(LIBRARIES)
    assert all(name in CASES[library] for library, name in CHOSEN)


def test_the_task_is_seeded() -> None:
    spikes, labels = streams(8, seed=1)
    again, _ = streams(8, seed=1)
    assert (spikes == again).all()
    assert spikes.shape[1] == STEPS
    assert set(labels.tolist()) <= set(range(CLASSES))
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
