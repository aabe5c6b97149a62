from __future__ import annotations

import json

from service.contract.artifact import Artifact
from service.contract.describe import summary
from service.models.model import Model
from tests.support.artifacts.fake_graph import OUTPUTS
from tests.support.paths import SPEECH


def test_the_summary_is_json_with_the_sizes(model: Model) -> None:
    described = json.loads(json.dumps(summary(model.manifest)))
    assert described["network"]["form"] == "exact"
    assert described["network"]["state_bytes"] == 8 * OUTPUTS + 8
    assert described["encoder"]["state_bytes"] == 8
    assert described["endpointing"] is None
    assert described["total_bytes"] == sum(entry["bytes"] for entry in described["files"].values())


def test_the_summary_says_how_utterances_are_found() -> None:
    described = summary(Artifact.describe(SPEECH).manifest)
    assert described["endpointing"]["silence_s"] == 0.2
