"""The NumPy version beside the note on the timescale bank: its table, its theorem, and the product's bank."""

from __future__ import annotations

import re
import runpy
from typing import Any

import numpy as np
import pytest
import torch

from hetsyn_model.synapses.bank import Bank
from tests.support.paths import ROOT

FOLDER = ROOT / "docs/explanation"
PROGRAM = FOLDER / "timescale_bank.py"
NOTE: dict[str, Any] = runpy.run_path(str(PROGRAM))
SIZES = (4, 6, 8, 12, 16)
MOST_WORDS = 1500


def test_the_table_of_the_note_is_that_of_its_program() -> None:
    text = (FOLDER / "timescale-bank.md").read_text()
    rows = re.findall(r"^\| (\d+)\.\.(\d+) \|(.*)\|$", text, re.M)
    assert [row[:2] for row in rows] == [("5", "20"), ("3", "200"), ("1", "1000")]
    for fastest, slowest, errors in rows:
        r = np.exp(-1 / np.geomspace(float(fastest), float(slowest), 5000))
        for size, error in zip(SIZES, map(str.strip, errors.split("|")), strict=True):
            found = np.abs(NOTE["blaschke"](r, NOTE["best_decays"](float(fastest), float(slowest), size))).max()
            assert not error or f"{found:.1e}".replace("e-0", "e-") == error, (fastest, slowest, size)
    assert len(text.split()) <= MOST_WORDS


def test_the_error_is_that_of_the_kernel_and_no_coefficients_have_a_smaller_one() -> None:
    r, decays = np.exp(-1 / np.array([3.0, 11.0, 50.0])), NOTE["best_decays"](3.0, 50.0, 5)
    steps = np.arange(3000)
    basis, c = decays[:, None] ** steps, NOTE["coefficients"](r, decays)
    for kernel, own, error in zip(r[:, None] ** steps, c, NOTE["blaschke"](r, decays), strict=True):
        norm = np.linalg.norm(kernel)
        assert np.linalg.norm(own @ basis - kernel) / norm == pytest.approx(abs(error), rel=1e-9)
        best = np.linalg.lstsq(basis.T, kernel, rcond=None)[0]
        assert np.linalg.norm(best @ basis - kernel) / norm == pytest.approx(abs(error), rel=1e-6)


def test_the_worst_errors_are_equal_so_that_no_decay_can_be_moved() -> None:
    decays = NOTE["best_decays"](3.0, 200.0, 6)
    errors = np.abs(NOTE["blaschke"](np.exp(-1 / np.geomspace(3.0, 200.0, 20001)), decays))
    inner = errors[1:-1][(errors[1:-1] >= errors[:-2]) & (errors[1:-1] >= errors[2:])]
    peaks = np.array([errors[0], *inner, errors[-1]])
    assert peaks == pytest.approx(np.full(7, errors.max()), rel=1e-4)


def test_the_product_has_the_same_coefficients() -> None:
    r, decays = np.exp(-1 / np.geomspace(3.0, 200.0, 50)), NOTE["best_decays"](3.0, 200.0, 8)
    assert Bank(tuple(decays)).coefficients(torch.from_numpy(r)).numpy() == pytest.approx(
        NOTE["coefficients"](r, decays), rel=1e-9
    )


def test_the_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(PROGRAM), run_name="__main__")
    assert [line.split(" by ")[1][:7] for line in capsys.readouterr().out.splitlines()] == [
        "5.8e-02",
        "9.9e-03",
        "1.7e-03",
        "4.9e-05",
    ]
