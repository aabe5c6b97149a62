"""The commands of a server: ``hetsyn serve``, ``reload`` and ``inspect``. ``hetsyn.py`` finds them here."""

from __future__ import annotations

from pathlib import Path

MODELS = Path("models")  # folder where serve and inspect look for models
