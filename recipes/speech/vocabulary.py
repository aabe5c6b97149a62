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


@dataclass(frozen=True)
class Vocabulary:
    """The classes of a model, and the words of its data.

    A recording's label is its fine word: one of ``FREQUENT``, or ``unknown`` or ``silence``.

    Attributes:
        named: words that are classes.
        rejects: whether there are the classes ``unknown`` and ``silence``.
    """

    named: tuple[str, ...]
    rejects: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        return (*self.named, *REJECTED) if self.rejects else self.named

    @property
    def words(self) -> tuple[str, ...]:
        return (*FREQUENT, *REJECTED)

    @property
    def others(self) -> tuple[str, ...]:
        """The frequent words that are none of the model's."""
        return tuple(word for word in FREQUENT if word not in self.named)

    def word(self, spoken: str) -> int:
        """Return the index of a recording's fine word."""
        return self.words.index(spoken if spoken in self.words else UNKNOWN)

    @property
    def class_of_word(self) -> list[int]:
        """The class of each fine word; -1 for one that the model cannot answer."""
        return [self._class(word) for word in self.words]

    def _class(self, word: str) -> int:
        if word in self.classes:
            return self.classes.index(word)
        return self.classes.index(UNKNOWN) if self.rejects else -1


MODELS: Final = {"digits": DIGITS, "commands": COMMANDS}


def vocabulary(model: str, rejects: bool = True) -> Vocabulary:
    """Return the vocabulary of ``digits`` or ``commands``."""
    return Vocabulary(MODELS[model], rejects)


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"
