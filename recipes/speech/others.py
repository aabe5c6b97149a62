"""Synthesised words that are no digit: what a model has to refuse."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np

from hetsyn_model.training.datasets.data import DataError
from recipes.speech.vocabulary import COMMANDS, FREQUENT
from recipes.speech.voices.corpus import HELD_OUT, WORKERS, file_name, prepare, write_wav
from recipes.speech.voices.programs import Espeak, Festival, Flite, Pico
from recipes.speech.voices.speech import ENGLISH, OTHER_ENGLISH, Prosody, SpeechEngine, SpeechError, Voice
from recipes.speech.voices.speech import words as spaced

SEED: Final = 20261130
WORDS: Final = 1000
VOICES_A_WORD: Final = 2
# of a command, and of a word that sounds like a digit or is said to any machine, such as "hello"
VOICES_A_NEAR_WORD: Final = 12
LONGEST: Final = 9  # letters
HOMOPHONES: Final = frozenset(spaced("to too for fore ate won wan free tree sics sex fife nein knows know their"))
SHARES: Final = {"espeak": 0.5, "flite": 0.2, "festival": 0.15, "pico": 0.15}


def words(dictionary: Path, unheard: tuple[str, ...]) -> list[str]:
    """Draw words from a list of one a line, and add the commands and words that sound like a digit.

    Args:
        dictionary: for example /usr/share/dict/words of Debian's wamerican-small.
        unheard: words that nobody trains on.

    Raises:
        DataError: there is no such list.
    """
    try:
        listed = dictionary.read_text(encoding="utf-8").split()
    except OSError as error:
        raise DataError(f"{dictionary}: no list of words: apt-get install wamerican-small, or give --words") from error
    known = {
        word for word in listed if word.isascii() and word.isalpha() and word.islower() and 2 <= len(word) <= LONGEST
    }
    left_out = {*FREQUENT, *HOMOPHONES, *unheard}
    free = sorted(word for word in known - left_out if not any(digit in word for digit in ENGLISH))
    drawn = np.random.default_rng(SEED).permutation(np.array(free)).tolist()[:WORDS]
    return sorted({*drawn, *COMMANDS, *(word for word in OTHER_ENGLISH if word not in left_out)})


def speak(out: Path, chosen: list[str]) -> int:
    """Write ``WORD_VOICE_TAKE.wav`` for each word by voices that are installed; existing files are kept.

    Returns:
        The number of files that are there now.

    Raises:
        DataError: no engine is installed.
    """
    engines: list[SpeechEngine] = [engine for engine in (Espeak(), Flite(), Festival(), Pico()) if engine.installed()]
    if not engines:
        raise DataError(f"no text-to-speech engine found: {Espeak.package}")
    out.mkdir(parents=True, exist_ok=True)
    shares = np.array([SHARES[engine.name] for engine in engines])
    jobs = []
    for word in chosen:
        rng = np.random.default_rng([SEED, *word.encode()])
        is_near = word in COMMANDS or word in OTHER_ENGLISH
        for take in range(VOICES_A_NEAR_WORD if is_near else VOICES_A_WORD):
            engine = engines[int(rng.choice(len(engines), p=shares / shares.sum()))]
            voices = [one for one in engine.voices() if one.words == ENGLISH and one.speaker not in HELD_OUT]
            voice = voices[int(rng.integers(len(voices)))]
            prosody = Prosody(float(rng.uniform(0.85, 1.25)), float(rng.uniform(0.9, 1.12)))
            jobs.append((out / file_name(word, voice.speaker, take), engine, voice, word, prosody))
    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(pool.map(lambda job: _write(*job), jobs))


def _write(path: Path, engine: SpeechEngine, voice: Voice, word: str, prosody: Prosody) -> bool:
    if not path.exists():
        try:
            write_wav(path, prepare(*engine.speak(word, voice, prosody)))
        except SpeechError:
            return False
    return True
