from __future__ import annotations

import pytest

from service.errors import ArtifactError
from service.models.model import Model
from tests.support.gate import Gate
from tests.support.smoke_tested import smoke_tested


def test_the_smoke_test_runs_every_form_and_kind(model: Model, gate: Gate) -> None:
    smoke_tested(model)
    # two forms, each with spikes and with sound, two chunks each; sound takes the encoder as well
    assert gate.calls == 2 * (2 + 2 * 2)
    gate.failure = ArtifactError("no")
    with pytest.raises(ArtifactError, match="no"):
        smoke_tested(model)
