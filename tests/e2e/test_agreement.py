"""Torch, ONNX Runtime, TorchScript and ``/infer`` give one answer to every recording."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.agreement import compare
from hetsyn_model.training.config import load_config
from hetsyn_model.training.data import Recording, read_folder, read_wav
from tests.support.paths import FSDD, ROOT
from tests.support.tools import NO_RECORDINGS

pytestmark = pytest.mark.long

NAMES = load_config("speech-digits").names  # by label
TOLERANCE = 1e-4  # of a probability


def check(results: dict[str, Any]) -> None:
    for item in [*results["implementations"], *results["served"]]:
        assert item["labels"] == 0, item
        assert item["probabilities"] <= TOLERANCE, item


def test_the_shipped_recordings() -> None:
    recordings = [
        Recording(read_wav(ROOT / f"docs/recordings/{word}.wav", 8000), label, "flite-rms", 0)
        for label, word in enumerate(NAMES.values())
    ]
    check(compare(ROOT / "models", "speech-digits", "1", recordings))


def test_real_speech(capsys: pytest.CaptureFixture[str]) -> None:
    if not FSDD.is_dir():
        pytest.skip(NO_RECORDINGS)
    chosen = read_folder(FSDD, tuple(NAMES), 8000)[::12]
    assert len(chosen) >= 200
    results = compare(ROOT / "models", "speech-digits", "1", chosen)
    with capsys.disabled():
        print(json.dumps(results["bank_against_exact"]))
    check(results)
    forms = results["bank_against_exact"]
    assert abs(forms["accuracy_exact"] - forms["accuracy_bank"]) <= 1 / len(chosen)
