"""The people of Google Speech Commands, divided once: who trains, who validates, who tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

Part = Literal["train", "validation", "test"]
RESULTS: Final = Path(__file__).with_name("results")
_LISTED: Final[dict[str, Any]] = json.loads((RESULTS / "people.json").read_text())
# nobody trains on them; they show how words are refused that no network has heard
HELD_OUT_WORDS: Final[tuple[str, ...]] = tuple(_LISTED["held_out_words"])


def speakers(part: Part) -> frozenset[str]:
    """Return who trains; who chooses epochs, seeds and thresholds (``validation``); or who judges, once (``test``)."""
    return frozenset(_LISTED[part])
