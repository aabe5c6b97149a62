from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.contract.artifact import Artifact
from service.errors import ArtifactError
from service.models.model import Model
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import load_fake
from tests.support.artifacts.smoke_tested import smoke_tested


def test_a_state_that_no_session_can_begin_with_is_the_model_s_fault(tmp_path: Path) -> None:
    folder = write_artifact(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["network"]["state"][-2]["initial"] = 1e13  # no network comes to such numbers
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=f"{folder}: the state that it begins with has"):
        smoke_tested(Model(Artifact.open(folder), load_fake))
