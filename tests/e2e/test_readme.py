"""The README's Python runs, and the commands that it lists exist."""

from __future__ import annotations

import re

import pytest

import hetsyn
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()


def test_its_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert "torch.Size([4, 20])" in capsys.readouterr().out


def test_it_lists_every_command() -> None:
    assert set(re.findall(r"`hetsyn (\w+)", README)) == set(hetsyn.SUBCOMMANDS)
