"""Every benchmark's description is one that the command line can show."""

from __future__ import annotations

import sys

import pytest

from benchmarks.__main__ import BENCHMARKS, main


@pytest.mark.parametrize("arguments", [[], *([name] for name in BENCHMARKS)])
def test_help(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments, "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "--quick" in capsys.readouterr().out or not arguments
