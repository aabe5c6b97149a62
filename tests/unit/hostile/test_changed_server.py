"""A wall clock that a file moves, and settings without an option."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.changed_server import changed, move_clock
from tests.support.product import make_settings


def test_a_file_moves_the_wall_clock_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right_s, right_ns = time.time, time.time_ns
    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, getattr(time, name))  # puts the clock right after the test
    file = tmp_path / "clock"
    move_clock(file)
    assert abs(time.time() - right_s()) < 100  # no file yet
    for ahead_s in (5_000, -3_600):
        file.write_text(str(ahead_s))
        assert abs(time.time() - right_s() - ahead_s) < 100
        assert abs(time.time_ns() - right_ns() - ahead_s * 10**9) < 100 * 10**9
    file.write_text("half of a num")
    assert abs(time.time() - right_s()) < 100


def test_a_setting_has_another_value_of_its_type() -> None:
    settings = changed(changed(make_settings(), "max_model_bytes", "7"), "sweep_interval_s", "0.5")
    assert (settings.max_model_bytes, settings.retention.sweep_interval_s) == (7, 0.5)
    with pytest.raises(SystemExit, match="no setting sweep_s"):
        changed(settings, "sweep_s", "1")
