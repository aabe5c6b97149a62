"""The people of Google Speech Commands, divided once: who trains, who validates, who tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Part = Literal["train", "validation", "test"]
PARTS: Final[tuple[Part, ...]] = ("train", "validation", "test")
DIVISION: Final = Path(__file__).with_name("results") / "people.json"


@dataclass(frozen=True)
class Division:
    """Who is for what.

    Attributes:
        train: speakers to train on.
        validation: speakers who choose epochs, seeds and thresholds.
        test: speakers who judge, once.
        held_out_words: words that nobody trains on; they show how words are refused that no network has heard.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    held_out_words: tuple[str, ...]

    @staticmethod
    def load() -> Division:
        return Division(**{name: tuple(names) for name, names in json.loads(DIVISION.read_text()).items()})

    def part_of(self, speaker: str) -> Part | None:
        """Return what a speaker is for; None for one who is not listed."""
        return next((part for part in PARTS if speaker in getattr(self, part)), None)
