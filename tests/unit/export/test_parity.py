"""The verifier: each figure by which an implementation may differ stops an export."""

from __future__ import annotations

import math
from typing import Any

import pytest

from export.parity import Difference, Evidence, ParityError, check_evidence, check_same_bits


@pytest.mark.parametrize(
    "figures", [{"labels": 1}, {"spikes": 1}, {"readout": 1e-9}, {"readout": math.nan}, {"probabilities": 2e-5}]
)
def test_a_network_has_the_bits_of_torch(figures: dict[str, Any]) -> None:
    same = Difference("plain ONNX, alone", probabilities=1e-6)
    check_same_bits(Evidence((same, same)))
    with pytest.raises(ParityError, match="plain ONNX, chunks differs from torch"):
        check_same_bits(Evidence((same, Difference("plain ONNX, chunks", **figures))))


def test_a_network_has_the_same_bits_in_company() -> None:
    with pytest.raises(ParityError, match="in a batch or in chunks differs by 1e-09 from the stream alone"):
        check_same_bits(Evidence((Difference("plain ONNX, alone"),), company=1e-9))


@pytest.mark.parametrize(
    ("evidence", "sentence"),
    [
        (Evidence((Difference("plain ONNX, alone", state=2e-3),)), "differs from the step by 0.002"),
        (Evidence((Difference("plain ONNX, alone"),), company=2e-3), "in a batch differs by 0.002"),
        (
            Evidence((Difference("plain ONNX, alone"), Difference("chunks", readout=2e-3))),
            "in a batch differs by 0.002",
        ),
        (Evidence((Difference("plain ONNX, alone", state=math.nan),)), "not finite"),
        (Evidence((Difference("plain ONNX, alone"),), company=math.nan), "not finite"),
    ],
)
def test_a_step_keeps_to_its_tolerance(evidence: Evidence, sentence: str) -> None:
    check_evidence(Evidence((Difference("plain ONNX, alone", state=1e-4),), company=1e-4), 1e-3)
    with pytest.raises(ParityError, match=sentence):
        check_evidence(evidence, 1e-3)


def test_a_step_that_promises_bits_has_them() -> None:
    last_bit = Evidence((Difference("plain ONNX, alone", readout=1e-7),))
    check_evidence(last_bit, 1e-5)
    with pytest.raises(ParityError, match="tolerance=0 promises the same bits"):
        check_evidence(last_bit, 0.0)
