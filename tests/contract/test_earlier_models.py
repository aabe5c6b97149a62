"""Models of earlier commits give the answers that they were exported with.

They come out of git, so that no later export can rewrite them.
"""

from __future__ import annotations

import json
import shutil

import pytest

from benchmarks.revisions import SERVED, commit_of, models_of
from service.contract.manifest import MANIFEST
from service.engine.engine import Engine
from service.models.catalog import ModelCatalog
from service.reload.golden_test import golden_test
from tests.support.paths import ROOT

if not (ROOT / ".git").exists() or shutil.which("git") is None:
    pytest.skip("no git checkout: earlier models are in its history", allow_module_level=True)


@pytest.mark.parametrize(("revision", "formats"), [("bc4ebb1", [2, 2]), ("890ab00", [3, 4]), ("c6d5ab9", [3, 5])])
def test_earlier_models_give_their_golden_answers(revision: str, formats: list[int]) -> None:
    if commit_of(ROOT, revision) is None:
        pytest.skip(f"{revision} is not in the history of this clone: git fetch --unshallow")
    with models_of(revision) as folder:
        catalog = ModelCatalog(folder)
        assert catalog.names == list(SERVED)
        manifests = [model.artifact.folder / MANIFEST for model in catalog.models()]
        assert [json.loads(path.read_text())["format_version"] for path in manifests] == formats
        for model in catalog.models():
            golden_test(model, Engine(20_000))
