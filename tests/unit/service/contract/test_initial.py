"""The file of initial values: read if it fits the manifest, else refused with a sentence."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import ArtifactError
from service.models.catalog import ModelCatalog
from service.models.model import Model
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.artifact_file import rewrite
from tests.support.artifacts.fake_graph import OUTPUTS, load_fake

GIVEN: dict[str, Any] = {
    "exact/out.potential": np.array([0.25, -1.0, 3.0], np.float32),
    "encoder/loudness": np.array(0.5, np.float64),
}


def npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def with_initial(folder: Path, content: bytes, **change: Any) -> None:
    """Give an artifact the file of initial values."""
    manifest = json.loads((folder / "manifest.json").read_text())
    score_low = {"name": "decision.score_low", "shape": [OUTPUTS], "dtype": "float32", "initial": 0.0}
    manifest["network"]["state"].insert(1, score_low)
    manifest["network"]["state_bytes"] += 4 * OUTPUTS
    manifest |= {"initial_file": "initial.npz"} | change
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rewrite(folder, "initial.npz", content)


def opened(models: Path, content: bytes, **change: Any) -> Model:
    with_initial(write_artifact(models), content, **change)
    return ModelCatalog(models, load=load_fake).get()


def test_a_tensor_begins_with_its_array_and_others_with_one_value(tmp_path: Path) -> None:
    model = opened(tmp_path, npz(GIVEN))
    assert model.initial_row.tolist() == [0.25, -1.0, 3.0, *[0.0] * (2 * OUTPUTS)]
    (loudness,) = model.initial_encoder.values()
    assert float(loudness) == 0.5
    assert (loudness.ndim, loudness.dtype.name) == (0, "float64")


def test_arrays_of_the_other_form_that_an_older_artifact_had_are_left_out(tmp_path: Path) -> None:
    other = {"bank/out.potential": np.zeros(9, np.float32)}
    assert opened(tmp_path, npz(GIVEN | other)).initial_row[:3].tolist() == [0.25, -1.0, 3.0]


def test_a_session_cannot_change_what_the_next_one_begins_with(tmp_path: Path) -> None:
    model = opened(tmp_path, npz(GIVEN))
    for array in (model.initial_row, model.initial_encoder["loudness"]):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 7.0


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"exact/out.potential": np.zeros(4, np.float32)}, r"is float32 \[4\], its tensor float32 \[3\]"),
        ({"exact/out.potential": np.zeros(3, np.float64)}, r"is float64 \[3\], its tensor float32"),
        (
            {"exact/out.potential": np.array([0, np.nan, 0], np.float32)},
            "exact/out.potential has numbers that",
        ),
        ({"encoder/loudness": np.array(np.inf)}, "encoder/loudness has numbers that are not finite"),
        ({"exact/other": np.zeros(3, np.float32)}, "exact/other is no state tensor that may begin with values"),
        ({"new/out.potential": np.zeros(3, np.float32)}, "new/out.potential is no state tensor"),
        ({"exact/decision.score": np.zeros(3, np.float32)}, "exact/decision.score is no state tensor"),
        ({"exact/decision.step": np.array(3)}, "exact/decision.step is no state tensor"),
        ({"exact/out.potential": np.zeros(10**6, np.float32)}, "exact/out.potential is larger than its tensor"),
        ({"exact/out.potential": np.array([None] * 3)}, "Object arrays cannot be loaded"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], reason: str) -> None:
    with pytest.raises(ArtifactError, match=rf"initial\.npz: has no state .*{reason}.*: export the model again$"):
        opened(tmp_path, npz(arrays))


@pytest.mark.parametrize("content", [b"", b"not a zip", npz(GIVEN)[:-30], npz(GIVEN)[30:]])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"initial\.npz: has no state to begin with \(.*export the model again"):
        opened(tmp_path, content)


def test_another_file_than_the_manifests_is_refused(tmp_path: Path) -> None:
    folder = write_artifact(tmp_path)
    with_initial(folder, npz(GIVEN))
    (folder / "initial.npz").write_bytes(npz(GIVEN | {"encoder/loudness": np.array(0.75)}))
    with pytest.raises(ArtifactError, match=r"initial\.npz: differs from its"):
        ModelCatalog(tmp_path, load=load_fake)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"initial_file": "other.npz"}, r"'other\.npz' is used but not listed"),
        ({"initial_file": "../x"}, r"file '\.\./x'"),
        ({"format_version": 7}, "has manifest format 7, but this server reads 2 to 6"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        opened(tmp_path, npz(GIVEN), **change)
