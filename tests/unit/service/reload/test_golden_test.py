"""The golden streams of a network that takes values, compared within its own tolerance."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.contract.artifact import GOLDEN
from service.contract.manifest import MANIFEST
from service.engine.engine import Engine
from service.engine.work import Work, initial_stream
from service.errors import ArtifactError
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.reload.golden_test import golden_test
from service.wire.chunk import ValuesChunk
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.artifact_file import rewrite
from tests.support.artifacts.fake_graph import CHANNELS, load_fake

ENGINE = Engine(1000)
LENGTHS = (9, 4)


def sensors(folder: Path, tolerance: float, off_by: float, **arrays: Any) -> Model:
    """A model of values whose recorded answers are off.

    Args:
        arrays: of the golden file, in place of the right ones.
    """
    path = write_artifact(folder, "sensors", takes="values")
    model = ModelCatalog(folder, load=load_fake).get()
    values = np.random.default_rng(0).normal(size=(2, 9, CHANNELS)).astype(np.float32)
    works = [
        Work(initial_stream(model), ValuesChunk(stream[:length]), end=False)
        for stream, length in zip(values, LENGTHS, strict=True)
    ]
    recorded = np.array([outcome.result.probabilities for outcome in ENGINE.run(model, works)])
    file = io.BytesIO()
    right = {"values": values, "steps": np.array(LENGTHS), "exact.probabilities": recorded + np.float32(off_by)}
    np.savez_compressed(file, **(right | arrays))
    rewrite(path, GOLDEN, file.getvalue())
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["network"] |= {"tolerance": tolerance, "exactness": "C" if tolerance else "B"}
    (path / MANIFEST).write_text(json.dumps(manifest))
    return ModelCatalog(folder, load=load_fake).get()


def test_answers_are_those_of_the_golden_values(tmp_path: Path) -> None:
    golden_test(sensors(tmp_path / "exact", 0.0, 0.0), ENGINE)
    golden_test(sensors(tmp_path / "within", 1e-2, 1e-3), ENGINE)
    with pytest.raises(ArtifactError, match=r"golden stream 0: the answer is off by 0\.001"):
        golden_test(sensors(tmp_path / "beyond", 1e-4, 1e-3), ENGINE)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"values": np.zeros((2, 9, CHANNELS - 1), np.float32)}, r"has values \(2, 9, 5\) for 2 streams"),
        ({"values": np.zeros((1, 9, CHANNELS), np.float32)}, r"has values \(1, 9, 6\) for 2 streams"),
    ],
)
def test_golden_values_have_the_model_s_shape(tmp_path: Path, arrays: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        golden_test(sensors(tmp_path, 0.0, 0.0, **arrays), ENGINE)
