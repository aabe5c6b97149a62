"""The interface of a text-to-speech engine, and the digits as text for readers of several languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray


def words(spaced: str) -> tuple[str, ...]:
    """Words that are written with spaces between them."""
    return tuple(spaced.split())


ENGLISH: Final = words("zero one two three four five six seven eight nine")
# Words that are no digits, for the class `unknown`. The last two lines sound like one on purpose; homophones (to, for,
# ate, won) and words with a digit in them (someone) are left out.
OTHER_ENGLISH: Final = words(
    "yes no stop go left right up down open close start play pause music light kitchen window table water coffee "
    "hello goodbye please thanks monday friday morning evening weather radio volume house garden happy mother people "
    "computer question answer between about after again because remember picture school number letter telephone "
    "tree free sick fix mix fine line find sign hive live dive fire late wait gate make heaven eleven even "
    "run sun done wander hero zebra floor door more shoe new do through"
)
# English digits spelt for readers of another language give a foreign accent. These spellings are
# the ones that a speech recogniser (pocketsphinx) understood best.
GERMAN: Final = words("siro uann tuh srie foor feif sicks seven ejt nein")
FRENCH: Final = words("zéro ouane tu srî fôr faille-ve sixe sèvène èïte naille-ne")
DUTCH: Final = words("ziero wun toe srie foor faaiv siks sefven eet naain")

Samples = NDArray[np.float32]


class SpeechError(RuntimeError):
    """An engine produced no usable audio for one utterance."""


@dataclass(frozen=True)
class Voice:
    """One speaker of an engine.

    Attributes:
        speaker: its name in the corpus.
        code: the engine's own name for it.
        takes: recordings of each digit.
        words: text that it reads for each digit.
    """

    speaker: str
    code: str
    takes: int
    words: tuple[str, ...] = ENGLISH


@dataclass(frozen=True)
class Prosody:
    """Prosody of one take.

    Attributes:
        stretch: duration as a multiple of the voice's natural one.
        pitch_ratio: pitch as a multiple of the voice's natural one.
    """

    stretch: float = 1.0
    pitch_ratio: float = 1.0


class SpeechEngine(Protocol):
    """A text-to-speech engine; `speak` is called from several threads."""

    name: str
    package: str

    def installed(self) -> bool: ...

    def voices(self) -> Sequence[Voice]: ...

    def speak(self, text: str, voice: Voice, prosody: Prosody) -> tuple[Samples, int]:
        """Speak a text.

        Returns:
            Mono samples in [-1, 1], [n], and their rate in Hz.

        Raises:
            SpeechError: the engine fails.
        """
        ...
