from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import ArtifactError
from service.models.catalog import ModelCatalog
from service.models.model import Model
from tests.support.artifact import Takes, write_artifact
from tests.support.gate import Gate
from tests.support.smoke_tested import smoke_tested


def test_the_smoke_test_runs_every_form_and_kind(model: Model, gate: Gate) -> None:
    smoke_tested(model)
    # two forms, each with spikes and with sound, two chunks each; sound takes the encoder as well
    assert gate.calls == 2 * (2 + 2 * 2)
    gate.failure = ArtifactError("no")
    with pytest.raises(ArtifactError, match="no"):
        smoke_tested(model)


@pytest.mark.parametrize(
    ("takes", "calls"),
    [
        ("spikes", 2),
        ("values", 2 + 2),  # spikes, and values
        ("rows", 2 + 2 * 2),  # spikes, and values through the encoder
        ("frames", 2 + 2 + 2),  # spikes, values, and sound
    ],
)
def test_the_smoke_test_runs_what_the_model_takes(tmp_path: Path, gate: Gate, takes: Takes, calls: int) -> None:
    write_artifact(tmp_path, takes=takes, forms=["exact"])
    smoke_tested(ModelCatalog(tmp_path, load=gate.load).get())
    assert gate.calls == calls
