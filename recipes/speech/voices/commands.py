"""The command ``voices``: it synthesises a corpus and prints what is in it."""

from __future__ import annotations

import sys
from pathlib import Path

from recipes.speech.voices.corpus import synthesise


def speak_digits(out: Path, seed: int) -> None:
    """Synthesise English digits.

    Raises:
        DataError: no engine is installed.
    """
    report = synthesise(out, seed=seed, on_progress=_show)
    print(f"{report.total} recordings of {len(report.files_by_speaker)} voices in {out}")
    for engine, count in report.files_by_engine.items():
        print(f"  {engine}: {count}")
    for engine, package in report.missing.items():
        print(f"  {engine}: not installed: {package}")


def _show(done: int, wanted: int) -> None:
    print(f"\r{done} of {wanted} recordings", end="\n" if done == wanted else "", file=sys.stderr, flush=True)
