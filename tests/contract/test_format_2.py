"""An artifact of format 2, whose score is one float32, gives the bits that it gave when it was exported.

It has two forms; sessions run on the one that its manifest calls the default.

``tests/golden/format-2`` is such an artifact of a seeded network, with what the operator of that time made of it.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from export.parity import chunk_feed
from hetsyn_model.state import FORMS, Form
from service.contract.artifact import Artifact
from service.contract.graph_io import NEXT_STATE, NEXT_STEP, PROBABILITIES, SCORES, STATE, STEP
from service.contract.manifest import parse_manifest
from service.models.model import Model
from service.runtime.onnx import Array, load_graph
from service.runtime.operators import library
from tests.support.paths import GOLDEN
from tests.support.tools import NO_OPERATOR

FOLDER = GOLDEN / "format-2"
STREAMS = 2


def run(form: Form, cuts: list[int], *, use_operators: bool) -> dict[str, Array]:
    """What its graph makes of 5,000 steps of random spikes."""
    manifest = json.loads((FOLDER / "1/manifest.json").read_text()) | {"default_form": form}
    artifact = Artifact(FOLDER / "1", parse_manifest(json.dumps(manifest), FOLDER / "1"))
    artifact.verify()
    model = Model(artifact, lambda content: load_graph(content, use_operators=use_operators))
    assert manifest["format_version"] == 2
    assert not model.manifest.network.has_score_low
    with np.load(FOLDER / "expected.npz") as expected:
        spikes = expected["spikes"].astype(np.float32)
    state: dict[str, Array] = {
        STATE: np.tile(model.initial_row, (STREAMS, 1)),
        STEP: np.zeros(STREAMS, np.int64),
    }
    found: dict[str, Array] = {}
    start = 0
    for cut in cuts:
        feed = chunk_feed(spikes[:, start : start + cut], np.full(STREAMS, cut))
        found = model.network.run(feed | state, [NEXT_STATE, NEXT_STEP, SCORES, PROBABILITIES])
        state = {STATE: found[NEXT_STATE], STEP: found[NEXT_STEP]}
        start += cut
    assert start == spikes.shape[1]
    return found


@pytest.mark.skipif(library() is None, reason=NO_OPERATOR)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cuts", [[1, 6, 93, 4900], [5000], [2500, 2500]])
def test_a_server_gives_its_bits(form: Form, cuts: list[int]) -> None:
    """The bank on the operator. The exact form is plain ONNX now: its softmax may differ in the last digit."""
    found = run(form, cuts, use_operators=True)
    with np.load(FOLDER / "expected.npz") as expected:
        row = expected[f"{form}.state"].shape[1] - expected[f"{form}.scores"].shape[1]
        assert found[NEXT_STATE][:, :row].tobytes() == expected[f"{form}.state"][:, :row].tobytes()
        for name, output in (("scores", SCORES), ("probabilities", PROBABILITIES)):
            wanted = expected[f"{form}.{name}"]
            if form == "bank":
                assert found[output].tobytes() == wanted.tobytes(), name
            else:
                np.testing.assert_allclose(found[output], wanted, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_plain_onnx_runs_it(form: Form) -> None:
    found = run(form, [5000], use_operators=False)
    with np.load(FOLDER / "expected.npz") as expected:
        np.testing.assert_allclose(found[PROBABILITIES], expected[f"{form}.probabilities"], atol=1e-5)
        row = expected[f"{form}.state"].shape[1] - expected[f"{form}.scores"].shape[1]
        # the operator counts denormal numbers as zero
        np.testing.assert_allclose(found[NEXT_STATE][:, :row], expected[f"{form}.state"][:, :row], rtol=0, atol=1e-37)
