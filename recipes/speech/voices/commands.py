"""The commands ``voices`` and ``shd-voices``: they synthesise a corpus and print what is in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from hetsyn_model.training.data import DataError
from recipes.speech.voices import digits, shd
from recipes.speech.voices.corpus import CorpusReport, synthesise


def speak_digits(out: Path, seed: int) -> None:
    """Synthesise English digits; exits with 2 where there is no engine."""
    try:
        _print(synthesise(out, seed=seed, on_progress=_show), f"in {out}")
    except RuntimeError as error:
        _end(error)


def speak_shd(out: Path, seed: int) -> None:
    """Synthesise German and English digits in SHD's form; exits with 2 where there is no engine."""
    try:
        reports = digits.speak(out, seed=seed, on_progress=lambda _, done, wanted: _show(done, wanted))
        made = shd.write_files(out, out)
    except (RuntimeError, DataError) as error:
        _end(error)
    for language, report in reports.items():
        _print(report, f"in {out / language}")
    for name, count in made.recordings.items():
        print(f"{out / name}: {count} recordings of {made.speakers[name]} speakers")
    print(f"{made.spikes:.0f} spikes a recording")


def _end(error: Exception) -> NoReturn:
    print(error, file=sys.stderr)
    sys.exit(2)


def _show(done: int, wanted: int) -> None:
    print(f"\r{done} of {wanted} recordings", end="\n" if done == wanted else "", file=sys.stderr, flush=True)


def _print(report: CorpusReport, where: str) -> None:
    print(f"{report.total} recordings of {len(report.files_by_speaker)} voices {where}")
    for engine, count in report.files_by_engine.items():
        print(f"  {engine}: {count}")
    for engine, package in report.missing.items():
        print(f"  {engine}: not installed: {package}")
