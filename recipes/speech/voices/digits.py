"""German and English digits, which are SHD's classes, from voices that speak both or one of them.

A speaker is a vocal tract: one variant of espeak-ng, one recorded voice of the others. It has
one number in both languages, whatever its accent, and one where two programs have the same person's voice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from recipes.speech.voices.corpus import CorpusReport, synthesise
from recipes.speech.voices.programs import Espeak, Festival, Flite, Pico
from recipes.speech.voices.speech import (
    ENGLISH,
    GERMAN_DIGITS,
    Prosody,
    Samples,
    SpeechEngine,
    Voice,
    words,
)

Language = Literal["en", "de"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "de")
KEYS: Final = (*ENGLISH, *GERMAN_DIGITS)  # by label
TEST_EVERY: Final = 5

# Of each variant one English accent, for all of them the German of espeak-ng.
_ACCENTS: Final = words("en-us en en-gb-x-rp en-gb-scotland en-us-nyc en-029 en-gb-x-gbclan en-gb-x-gbcwmd")
_VARIANTS: Final = words(
    "edward m6 m1 adam Reed paul f1 f2 f5 grandpa m4 f4 michel Diogo m5 Hugo grandma john Denis Ian Henrique max "
    "m2 m3 m7 m8 f3 david Gene Lee linda Michael Mike pablo pedro steph zac victor travis sandro"
)
_SAME_PERSON: Final = {
    "flite-kal": "kal",
    "flite-kal16": "kal",
    "festival-kal": "kal",
    "flite-slt": "slt",
    "festival-slt-hts": "slt",
}


def _espeak(_: SpeechEngine, language: Language) -> list[Voice]:
    return [
        Voice(
            f"espeak-{variant.lower()}",
            f"{_ACCENTS[index % len(_ACCENTS)] if language == 'en' else 'de'}+{variant}",
            takes=2,
            words=ENGLISH if language == "en" else GERMAN_DIGITS,
        )
        for index, variant in enumerate(_VARIANTS)
    ]


def _pico(engine: SpeechEngine, language: Language) -> list[Voice]:
    """Its German speaker reads German here, not respelt English."""
    if language == "en":
        return _english(engine, language)
    return [replace(voice, takes=4, words=GERMAN_DIGITS) for voice in engine.voices() if voice.code == "de-DE"]


def _english(engine: SpeechEngine, language: Language) -> list[Voice]:
    return [replace(voice, takes=4) for voice in engine.voices() if language == "en" and voice.words == ENGLISH]


@dataclass
class Reader:
    """An engine with the voices of one language in place of its own list.

    Attributes:
        engine: the engine.
        chosen: gives its voices of a language.
        language: of the digits.
    """

    engine: SpeechEngine
    chosen: Callable[[SpeechEngine, Language], list[Voice]]
    language: Language = "en"

    def __post_init__(self) -> None:
        self.name, self.package = self.engine.name, self.engine.package

    def installed(self) -> bool:
        return self.engine.installed()

    def voices(self) -> Sequence[Voice]:
        return self.chosen(self.engine, self.language)

    def speak(self, text: str, voice: Voice, prosody: Prosody) -> tuple[Samples, int]:
        return self.engine.speak(text, voice, prosody)


READERS: Final = (
    Reader(Espeak(), _espeak),
    Reader(Pico(), _pico),
    Reader(Flite(), _english),
    Reader(Festival(), _english),
)


def person(speaker: str) -> str:
    """The person whose voice a corpus speaker has."""
    return _SAME_PERSON.get(speaker, speaker)


def is_held_out(speakers: Sequence[str]) -> Mapping[str, bool]:
    """Which of the persons are for the test: every fifth in order of their names, so of every engine with that many."""
    return {name: index % TEST_EVERY == 2 for index, name in enumerate(sorted(set(speakers)))}


def speak(
    out: Path,
    *,
    seed: int = 0,
    on_progress: Callable[[str, int, int], None] | None = None,
    readers: Sequence[Reader] = READERS,
) -> dict[Language, CorpusReport]:
    """Write the corpus of each language to ``out/en`` and ``out/de``, with the digit as label; existing files are kept.

    Raises:
        DataError: no engine is installed.
    """
    reports: dict[Language, CorpusReport] = {}
    for language in LANGUAGES:

        def shown(done: int, wanted: int, language: Language = language) -> None:
            if on_progress is not None:
                on_progress(language, done, wanted)

        # an engine without a voice for the language is not missing
        speaking = [
            each
            for each in (replace(reader, language=language) for reader in readers)
            if not each.installed() or each.voices()
        ]
        reports[language] = synthesise(out / language, seed=seed, on_progress=shown, available=speaking)
    return reports
