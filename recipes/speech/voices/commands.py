"""The commands ``voices`` and ``shd-voices``: they synthesise a corpus and print what is in it."""

from __future__ import annotations

import sys
from pathlib import Path

from recipes.speech.voices import digits, shd
from recipes.speech.voices.corpus import CorpusReport, synthesise


def speak_digits(out: Path, seed: int) -> None:
    """Synthesise English digits.

    Raises:
        DataError: no engine is installed.
    """
    _print(synthesise(out, seed=seed, on_progress=_show), f"in {out}")


def speak_shd(out: Path, seed: int) -> None:
    """Synthesise German and English digits in SHD's form.

    Raises:
        DataError: no engine is installed, or too few speakers to hold one out.
    """
    reports = digits.speak(out, seed=seed, on_progress=lambda _, done, wanted: _show(done, wanted))
    made = shd.write_files(out, out)
    for language, report in reports.items():
        _print(report, f"in {out / language}")
    for name, count in made.recordings.items():
        print(f"{out / name}: {count} recordings of {made.speakers[name]} speakers")
    print(f"{made.spikes:.0f} spikes a recording")


def _show(done: int, wanted: int) -> None:
    print(f"\r{done} of {wanted} recordings", end="\n" if done == wanted else "", file=sys.stderr, flush=True)


def _print(report: CorpusReport, where: str) -> None:
    print(f"{report.total} recordings of {len(report.files_by_speaker)} voices {where}")
    for engine, count in report.files_by_engine.items():
        print(f"  {engine}: {count}")
    for engine, package in report.missing.items():
        print(f"  {engine}: not installed: {package}")
