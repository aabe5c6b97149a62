"""``examples/ts_to_npz.py``: series in aeon's form, read as ``hetsyn train`` takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from examples.ts_to_npz import read_ts
from hetsyn_model.training.config import load_config
from hetsyn_model.training.datasets.read_arrays import examples_of

HEAD = "# a comment: 1,2\n@problemName Two\n@classLabel true a b\n@data\n"


def test_series_of_several_lengths_and_channels(tmp_path: Path) -> None:
    (tmp_path / "two.ts").write_text(f"{HEAD}1,2,3:4,5,6:a\n\n-1.5,2:0,1e-2:b\n")
    examples = examples_of(read_ts(tmp_path / "two.ts"), load_config(None, "values"), "two.ts")
    assert examples.labels == ("a", "b")
    assert [item.length for item in examples.items] == [3, 2]
    assert np.allclose(examples.items[1].values, [[-1.5, 0], [2, 0.01]])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1,2,?:a\n", "line 5: not lists of numbers"),
        ("1,2:3:a\n", "line 5: not lists of numbers, one a channel, all as long"),
        ("1,2:a\n1,2:3,4:a\n", "line 6: give each example the same channels"),
        ("", "no examples after a line @data"),
        ("1,2:\n", "line 5: has no class at its end"),
        ("1,NaN:a\n", "line 5: a value is not a finite number: fill in missing values"),
        ("1,1e999:a\n", "line 5: a value is not a finite number"),
        ("1,2:\udcff\n", "bad.ts: not text in UTF-8"),
    ],
)
def test_what_is_no_example_is_named(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "bad.ts").write_text(HEAD + lines, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=message):
        read_ts(tmp_path / "bad.ts")
