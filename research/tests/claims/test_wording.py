"""Numbers of the report as text."""

from __future__ import annotations

import pytest

from research.claims.wording import spread


@pytest.mark.parametrize(
    ("metric", "values", "text"),
    [
        ("accuracy", [0.8, 0.9], "85.0 ± 7.1%"),
        ("factor", [1.0, 2.0], "1.50 ± 0.71"),
        ("mean squared error", [0.01, 0.02], "0.0150 ± 0.0071"),
        ("accuracy", [0.8], "80.0%"),  # one seed has no spread
        ("factor", [1.0], "1.00"),
        ("mean squared error", [0.01], "0.0100"),
    ],
)
def test_a_spread_is_shown_where_there_is_more_than_one_seed(metric: str, values: list[float], text: str) -> None:
    assert spread(metric, values) == text
