"""Where things of this repository are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS, MODELS, RECORDINGS = ROOT / "docs", ROOT / "models", ROOT / "docs" / "recordings"
SPEECH = max((MODELS / "speech-digits").glob("[0-9]*"), key=lambda folder: int(folder.name))  # the default model
GOLDEN, SUPPORT = ROOT / "tests" / "golden", ROOT / "tests" / "support"
FSDD = ROOT.parent / "shared" / "data" / "fsdd" / "recordings"  # the Free Spoken Digit Dataset, where it lies beside us
GSC = ROOT.parent / "shared" / "data" / "gsc"  # a part of Google Speech Commands, where it lies beside us
