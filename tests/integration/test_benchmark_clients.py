"""The contenders of ``python -m benchmarks clients`` get the same answers."""

from __future__ import annotations

import pytest

from benchmarks import clients
from tests.support.paths import MODELS
from tests.support.running_server import running


def test_each_contender_gets_the_word(capsys: pytest.CaptureFixture[str]) -> None:
    with running(MODELS, client_share=1.0) as url:
        results = clients.measured(clients.Sessions(url, 3), rounds=2)
    assert results["chunks"] == 3 * 8
    assert results["ratios"].keys() == clients.CONTENDERS.keys()
    assert results["ratios"][clients.BASE] == 1
    assert [len(times) for times in results["seconds_of_rounds"].values()] == [2] * len(clients.CONTENDERS)
    clients.show(results | {"sessions": 3})
    assert "3 sessions at once, 24 chunks" in capsys.readouterr().out
