"""Networks of other libraries give their own spike counts when they are served; each library where it is installed."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import pytest

from tests.support.tools import NO_NIR

pytest.importorskip("nir", reason=NO_NIR)
pytest.importorskip("onnxscript", reason="torch exports ONNX with onnxscript: pip install onnxscript")

from tests.long.libraries import LIBRARIES, prove
from tests.long.libraries.networks import CASES
from tests.long.libraries.task import CLASSES, STEPS, streams

# one without and one with recurrence, of each library
CHOSEN = [
    *(("snntorch", "Leaky"), ("snntorch", "RSynaptic"), ("norse", "LIFCell"), ("norse", "LIFRecurrentCell")),
    *(("spikingjelly", "ParametricLIFNode"), ("spikingjelly", "LinearRecurrentContainer of LIFNode")),
    *(("sinabs", "LIF"), ("sinabs", "LIFRecurrent, SingleSpike")),
]


MISSING = sorted({library for library, _ in CHOSEN if importlib.util.find_spec(library) is None})


@pytest.mark.process
def test_their_spike_counts_are_their_own(tmp_path: Path) -> None:
    check(CHOSEN, tmp_path, updates=4, count=32)


@pytest.mark.long
def test_all_networks_learn_and_keep_their_spike_counts(tmp_path: Path) -> None:
    check([(library, name) for library in LIBRARIES for name in CASES[library]], tmp_path, updates=200, count=256)


def check(cases: list[tuple[str, str]], folder: Path, updates: int, count: int) -> None:
    """Prove the networks of the libraries that are installed."""
    for number, (library, name) in enumerate(cases):
        if library in MISSING:
            continue
        (own := folder / str(number)).mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries
            found = prove(library, name, updates, own, count)
        assert found["spikes"] > 0, found
        assert (found["differ"], found["differ_served"]) == (0, 0), found
        assert found["verdict"].startswith("faithful: 0 of ")
    if MISSING:
        pytest.skip(f"not compared with our import of their networks: {', '.join(MISSING)}")


@pytest.mark.long
def test_every_library_has_networks() -> None:
    assert set(CASES) == set(LIBRARIES)
    assert {name for name, _ in CHOSEN} == set(LIBRARIES)
    assert all(name in CASES[library] for library, name in CHOSEN)


@pytest.mark.long
def test_the_task_is_seeded() -> None:
    spikes, labels = streams(8, seed=1)
    again, _ = streams(8, seed=1)
    assert (spikes == again).all()
    assert spikes.shape[1] == STEPS
    assert set(labels.tolist()) <= set(range(CLASSES))
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
