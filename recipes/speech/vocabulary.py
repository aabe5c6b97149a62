"""The words of a model: which are classes of their own, and which are none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DIGITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RARE_DIGITS: Final = ("two", "three", "four", "six", "seven", "nine")  # of ten to twelve people each
COMMANDS: Final = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN: Final = "unknown"
SILENCE: Final = "silence"
REJECTED: Final = (UNKNOWN, SILENCE)
# that many people say: an auxiliary readout names each of them in training
FREQUENT: Final = (*DIGITS, *COMMANDS)
FINE_WORDS: Final = (*FREQUENT, *REJECTED)  # a recording's label is the index of its own


def fine_word(spoken: str) -> int:
    """Return the index of a word's fine word."""
    return FINE_WORDS.index(spoken if spoken in FINE_WORDS else UNKNOWN)


@dataclass(frozen=True)
class Vocabulary:
    """The classes of a model.

    Attributes:
        named: words that are classes; ``unknown`` and ``silence`` are, too.
    """

    named: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return (*self.named, *REJECTED)

    @property
    def others(self) -> tuple[str, ...]:
        """The frequent words that are none of the model's."""
        return tuple(word for word in FREQUENT if word not in self.named)

    @property
    def class_of_word(self) -> list[int]:
        """The class of each fine word."""
        return [self.classes.index(word if word in self.classes else UNKNOWN) for word in FINE_WORDS]


VOCABULARIES: Final = {"digits": Vocabulary(DIGITS), "commands": Vocabulary(COMMANDS)}  # of each model


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"
