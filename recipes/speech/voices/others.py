"""Synthesised words that are no digit: what a model has to refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from hetsyn_model.training.datasets.data import DataError
from recipes.speech.vocabulary import COMMANDS, FREQUENT
from recipes.speech.voices.corpus import HELD_OUT, Take, some_prosody
from recipes.speech.voices.speech import ENGLISH, OTHER_ENGLISH, SpeechEngine
from recipes.speech.voices.speech import words as spaced

DICTIONARY: Final = Path("/usr/share/dict/words")
SEED: Final = 20261130
WORDS: Final = 1000
VOICES_A_WORD: Final = 2
# of a command, and of a word that sounds like a digit or is said to any machine, such as "hello"
VOICES_A_NEAR_WORD: Final = 12
LONGEST: Final = 9  # letters
HOMOPHONES: Final = frozenset(spaced("to too for fore ate won wan free tree sics sex fife nein knows know their"))
SHARES: Final = {"espeak": 0.5, "flite": 0.2, "festival": 0.15, "pico": 0.15}


def words(unheard: tuple[str, ...]) -> list[str]:
    """Draw words from Debian's list, and add the commands and words that sound like a digit.

    Args:
        unheard: words that nobody trains on.

    Raises:
        DataError: there is no such list.
    """
    try:
        listed = DICTIONARY.read_text(encoding="utf-8").split()
    except OSError as error:
        raise DataError(f"{DICTIONARY}: no list of words: apt-get install wamerican-small") from error
    known = {
        word for word in listed if word.isascii() and word.isalpha() and word.islower() and 2 <= len(word) <= LONGEST
    }
    left_out = {*FREQUENT, *HOMOPHONES, *unheard}
    free = sorted(word for word in known - left_out if not any(digit in word for digit in ENGLISH))
    drawn = np.random.default_rng(SEED).permutation(np.array(free)).tolist()[:WORDS]
    return sorted({*drawn, *COMMANDS, *(word for word in OTHER_ENGLISH if word not in left_out)})


def takes(chosen: Sequence[str], engines: Sequence[SpeechEngine]) -> list[Take]:
    """Draw the voices of each word; only English ones."""
    shares = np.array([SHARES[engine.name] for engine in engines])
    found = []
    for word in chosen:
        rng = np.random.default_rng([SEED, *word.encode()])
        is_near = word in COMMANDS or word in OTHER_ENGLISH
        for number in range(VOICES_A_NEAR_WORD if is_near else VOICES_A_WORD):
            engine = engines[int(rng.choice(len(engines), p=shares / shares.sum()))]
            voices = [one for one in engine.voices() if one.words == ENGLISH and one.speaker not in HELD_OUT]
            voice = voices[int(rng.integers(len(voices)))]
            found.append(Take(word, engine, voice, number, [(word, some_prosody(rng))]))
    return found
