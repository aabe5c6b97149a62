"""Second-language accents as substitutions on Kokoro's phonemes.

The features are those that textbooks of phonology and of English teaching describe for many first languages: M. Swan
and B. Smith (eds.), *Learner English*, 2001; P. Avery and S. Ehrlich, *Teaching American English Pronunciation*, 1992;
J. C. Wells, *Accents of English*, 1982. They were written down without listening to any recording or synthesised voice.
An accent is a random choice of several features, not one language's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

_VOWEL: Final = "[aeiouyæɐɑɒɔəɛɜɨɪɯʊʌAIOQW]"


@dataclass(frozen=True)
class Feature:
    """One trait of an accent.

    Attributes:
        code: its name in a speaker's name, letters alone.
        about: what it is, for people.
        substitutions: regular expressions on a word's phonemes and their replacements, applied in this order. The
            stress mark stands before the vowel of its syllable.
    """

    code: str
    about: str
    substitutions: tuple[tuple[str, str], ...]

    def of(self, phonemes: str) -> str:
        """A word's phonemes with this feature."""
        for pattern, replacement in self.substitutions:
            phonemes = re.sub(pattern, replacement, phonemes)
        return phonemes


def _feature(code: str, about: str, *substitutions: tuple[str, str]) -> Feature:
    return Feature(code, about, substitutions)


# An accent has one feature of a group at most. They are applied in the order of the groups: f before the f that stands
# for a dental fricative, consonants before the vowels put between them, and ends of words last.
GROUPS: Final[tuple[tuple[Feature, ...], ...]] = (
    (
        _feature("fbi", "bilabial fricative for f", ("f", "ɸ")),
        _feature("fp", "p for f", ("f", "p")),
    ),
    (
        _feature("zs", "initial s for z", ("^z", "s")),
        _feature("sz", "z for s before a vowel at the start", ("^s(?=ˈ)", "z")),
        _feature("ssh", "postalveolar s before a close front vowel", ("s(?=ˈ?[iɪ])", "ʃ")),
    ),
    (
        _feature("ths", "s for the dental fricative", ("θ", "s")),
        _feature("tht", "t for the dental fricative", ("θ", "t")),
        _feature("thf", "f for the dental fricative", ("θ", "f")),
    ),
    (
        # a voiceless plosive without aspiration is what English has for an initial d
        _feature("unasp", "no aspiration of an initial t", ("^t(?=ˈ)", "d")),
        _feature("taff", "affricate for t before a close back vowel", ("t(?=ˈ?[uʊ])", "ʦ")),
        _feature("tretro", "retroflex t", ("t", "ʈ")),
    ),
    (
        _feature("vw", "w for v", ("v", "w")),
        _feature("vb", "b for v", ("v", "b")),
        _feature("vap", "labiodental approximant for v", ("v", "ʋ")),
    ),
    (
        _feature("wv", "v for w at the start", ("^w", "v")),
        _feature("wap", "labiodental approximant for w at the start", ("^w", "ʋ")),
    ),
    (_feature("rdrop", "no r at the end of a syllable", ("ɹ$", "ː"), ("ːː", "ː")),),
    (
        _feature("rtap", "tapped r", ("ɹ", "ɾ")),
        _feature("rtrill", "trilled r", ("ɹ", "r")),
        _feature("ruv", "uvular r", ("ɹ", "ʁ")),
        _feature("rl", "l for r before a vowel", (f"ɹ(?=ˈ?{_VOWEL})", "l")),
    ),
    (
        _feature("tense", "tense for lax close vowels", ("ɪ", "i"), ("ʊ", "u")),
        _feature("lax", "lax for tense close vowels", ("iː?", "ɪ"), ("uː?", "ʊ")),
    ),
    (_feature("ufront", "front rounded vowel for u", ("u", "y")),),
    (
        _feature("ah", "open vowel in one", ("ʌ", "a")),
        _feature("oh", "rounded vowel in one", ("ʌ", "ɔ")),
    ),
    (_feature("full", "full vowel for schwa", ("ən", "ɛn")),),
    (
        _feature("eclose", "close-mid e", ("ɛ", "e")),
        _feature("eopen", "near-open e", ("ɛ", "æ")),
    ),
    (_feature("oclose", "close-mid o", ("ɔ", "o")),),
    (
        _feature("mono", "monophthongs in zero and eight", ("A", "eː"), ("[OQ]", "o")),
        _feature("glide", "vowel and consonant j in five, eight and nine", ("A", "ɛj"), ("I", "aj")),
    ),
    (_feature("hard", "glottal stop before an initial vowel", (f"^(?=ˈ?{_VOWEL})", "ʔ")),),
    (
        _feature("epschwa", "schwa in clusters", ("^([θstfp])([ɹɾrʁl])", r"\1ə\2"), ("ks", "kəs")),
        _feature("epu", "unrounded u in clusters", ("^([θstfp])([ɹɾrʁl])", r"\1ɯ\2"), ("ks", "kɯs")),
    ),
    (_feature("nng", "velar nasal for a final n", ("n$", "ŋ")),),
    (
        _feature("devoice", "voiceless final obstruents", ("v$", "f"), ("b$", "p")),
        _feature("endschwa", "schwa after a final obstruent", ("([bfpstʈvwʋ])$", r"\1ə")),
        _feature("endu", "unrounded u after a final obstruent", ("([bfpstʈvwʋ])$", r"\1ɯ")),
        _feature("glottal", "glottal stop for a final t", ("[tʈ]$", "ʔ")),
    ),
)
FEATURES: Final = {feature.code: feature for group in GROUPS for feature in group}
FEWEST, MOST = 4, 8  # groups that an accent draws from
FEWEST_HEARD: Final = 3  # features that change at least one of the words
ATTEMPTS: Final = 100


@dataclass(frozen=True)
class Accent:
    """A speaker's accent.

    Attributes:
        codes: of its features, in the order in which they are applied.
        words: the phonemes of every word.
    """

    codes: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """As speakers' names have it."""
        return "l2-" + "-".join(self.codes)


def pronounced(words: Sequence[str], codes: Sequence[str]) -> Accent:
    """Words with the features of these codes.

    Features that change no word are left out of the accent's codes.
    """
    spoken, heard = tuple(words), []
    for code in FEATURES:
        if code in codes:
            changed = tuple(FEATURES[code].of(word) for word in spoken)
            heard += [code] if changed != spoken else []
            spoken = changed
    return Accent(tuple(heard), spoken)


def draw_accents(speaker: str, words: Sequence[str], count: int, seed: int = 0) -> list[Accent]:
    """Different accents of a speaker. They depend on speaker and seed alone; a larger count only adds some.

    Args:
        speaker: name in the corpus.
        words: phonemes of every word, without an accent.
        count: number of accents.
        seed: of the draw.

    Raises:
        ValueError: the words do not give so many different accents.
    """
    key = hashlib.sha256(f"accents/{seed}/{speaker}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(key[:8], "little"))
    accents: dict[tuple[str, ...], Accent] = {}
    for _ in range(ATTEMPTS * count):
        if len(accents) == count:
            break
        groups = rng.permutation(len(GROUPS))[: rng.integers(FEWEST, MOST + 1)]
        codes = [GROUPS[group][rng.integers(len(GROUPS[group]))].code for group in groups]
        accent = pronounced(words, codes)
        # words that have become one would teach a wrong label
        if len(accent.codes) >= FEWEST_HEARD and len(set(accent.words)) == len(words):
            accents.setdefault(accent.codes, accent)
    if len(accents) < count:
        raise ValueError(f"{speaker}: only {len(accents)} different accents were found, not {count}: ask for fewer")
    return list(accents.values())
