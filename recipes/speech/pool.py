"""The recordings to train on, and which of them an epoch draws."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from hetsyn_model.training.datasets.data import DataError, Recording, read_wav
from recipes.speech.people import HELD_OUT_WORDS, Part, speakers
from recipes.speech.vocabulary import COMMANDS, DIGITS, FINE_WORDS, FREQUENT, SILENCE, UNKNOWN, fine_word

Source = Literal["studio", "voice", "person", "speech", "noise"]
Audio = NDArray[np.float32]

RATE_HZ: Final = 8000
EVERY_TAKE: Final = 10  # of FSDD validates
MOST_REPEATS: Final = 5  # of a person's recording in an epoch
ACTIVE_DB: Final = 30.0  # a frame so far below the loudest is a pause
FRAME: Final = 80
GAMES: Final = (Path("/usr/share/ktuberling/sounds"), Path("/usr/share/tuxpaint/stamps"))
OTHER_SPEECH: Final = 1_200  # recordings
LEAST_BYTES: Final = 3_000  # of one
NOISES: Final = 400
LEVEL_DB: Final = (-80.0, -20.0)  # of noise
STEEPEST: Final = 2.0  # slope of a noise's power over frequency: white 0, pink 1, brown 2
SPLICE_S: Final = 0.005
PHRASE_PAUSE_S: Final = 0.12  # longest within a phrase: the server's utterances end after 0.2 s
PHRASE_S: Final = 1.8
# halves that make a word again, or nearly one
ALIKE: Final = frozenset({frozenset({"five", "nine"}), frozenset({"one", "nine"}), frozenset({"no", "go"})})


@dataclass(frozen=True)
class Clip(Recording):
    """A recording; its label is the fine word.

    Attributes:
        source: where it comes from.
        word: that is said; empty where nobody says.
        active: samples [first, last) of the loud part.
    """

    source: Source = "person"
    word: str = ""
    active: tuple[int, int] = (0, 0)

    @property
    def length(self) -> int:
        """Samples of the loud part: batches have examples of similar length."""
        return self.active[1] - self.active[0]

    @property
    def spoken(self) -> Audio:
        return self.audio[self.active[0] : self.active[1]]


def clip(audio: Audio, speaker: str, take: int, source: Source, word: str) -> Clip:
    """Describe a recording, float32 [samples], of which all counts."""
    label = fine_word(SILENCE if source == "noise" else word)
    return Clip(audio, label, speaker, take, source, word, (0, audio.size))


def loud_parts(clips: Iterable[Clip]) -> list[Clip]:
    """Find the loud part of each recording, and leave out those that are all but silent."""
    found = []
    for one in clips:
        energy = np.add.reduceat(one.audio.astype(np.float64) ** 2, np.arange(0, one.audio.size, FRAME)) / FRAME
        if energy.max() >= 1e-8:
            loud = np.flatnonzero(energy >= energy.max() * 10 ** (-ACTIVE_DB / 10))
            active = int(loud[0]) * FRAME, min(one.audio.size, (int(loud[-1]) + 1) * FRAME)
            found.append(replace(one, active=active))
    return found


def of_people(folder: Path, part: Part) -> list[Clip]:
    """Read the recordings of one part of the people; folders with an underscore in front have no words.

    Raises:
        DataError: there are none, or a file has another name.
    """
    found, listed = [], speakers(part)
    paths = sorted(path for end in ("flac", "wav") for path in folder.glob(f"[!_]*/*.{end}"))
    if not paths:
        raise DataError(f"{folder}: contains no WORD/SPEAKER_nohash_TAKE.wav: put Google Speech Commands there")
    for path in paths:
        match = _OF_PEOPLE.fullmatch(path.name)
        if match is None:
            raise DataError(f"{path}: the name is not SPEAKER_nohash_TAKE.wav")
        if match["speaker"] not in listed:
            continue
        audio, rate_hz = soundfile.read(path, dtype="float32")
        if rate_hz != RATE_HZ:
            audio = np.asarray(soxr.resample(audio, rate_hz, RATE_HZ), np.float32)
        found.append(clip(audio, match["speaker"], int(match["take"]), "person", path.parent.name))
    return loud_parts(found)


# SPEAKER_nohash_TAKE.wav, as Google Speech Commands has it, or SPEAKER_TAKE_SOURCE.flac
_OF_PEOPLE = re.compile(r"(?P<speaker>[0-9a-f]+)_(?:nohash_)?(?P<take>\d+)(?:_\w+)?\.(?:flac|wav)")
_WAV = re.compile(r"(?P<word>[^_]+)_(?P<speaker>[^_]+)_(?P<take>\d+)\.wav")


def of_wavs(folder: Path, source: Source) -> list[Clip]:
    """Read WORD_SPEAKER_TAKE.wav; a number is a digit.

    Raises:
        DataError: there are none, or a file has another name.
    """
    found = []
    for path in sorted(folder.glob("*.wav")):
        match = _WAV.fullmatch(path.name)
        if match is None:
            raise DataError(f"{path}: the name is not WORD_SPEAKER_TAKE.wav")
        word = DIGITS[int(match["word"])] if match["word"].isdecimal() else match["word"]
        found.append(clip(read_wav(path, RATE_HZ), match["speaker"], int(match["take"]), source, word))
    if not found:
        raise DataError(f"{folder}: contains no WORD_SPEAKER_TAKE.wav")
    return loud_parts(found)


def of_speech(folder: Path, piece_s: tuple[float, float] = (0.3, 0.9)) -> list[Clip]:
    """Cut the recordings of a folder into pieces of other speech, without its pauses; the same in every run."""
    rng = np.random.default_rng(0)
    found: list[Clip] = []
    shortest, longest = (round(duration_s * RATE_HZ) for duration_s in piece_s)
    for path in sorted(folder.rglob("*.wav")):
        audio, at = read_wav(path, RATE_HZ), 0
        while at < audio.size:
            size = int(rng.integers(shortest, longest + 1))
            pieces = loud_parts([clip(audio[at : at + size], path.stem, len(found), "speech", "")])
            found += [piece for piece in pieces if piece.length >= shortest // 2]
            at += size
    return found


def gather_speech(out: Path) -> int:
    """Copy recordings of other speech from Debian's games, the same in every run; returns their number.

    Files of ``symbols`` say digits and letters, so they are left out.

    Raises:
        DataError: there are too few.
    """
    found = [path for source in GAMES for path in sorted(source.rglob("*")) if path.suffix in (".ogg", ".wav")]
    found = [path for path in found if "symbols" not in path.parts and path.stat().st_size > LEAST_BYTES]
    if len(found) < OTHER_SPEECH:
        raise DataError(
            f"{len(found)} recordings of other speech: apt-get install ktuberling-data tuxpaint-stamps-default"
        )
    out.mkdir(parents=True, exist_ok=True)
    for number, index in enumerate(np.random.default_rng(3).permutation(len(found))[:OTHER_SPEECH]):
        samples, rate_hz = soundfile.read(found[int(index)], dtype="float32", always_2d=True)
        narrow = soxr.resample(samples.mean(1), rate_hz, RATE_HZ)
        soundfile.write(out / f"{number:04}.wav", np.clip(narrow, -1.0, 1.0), RATE_HZ, "PCM_16")
    return OTHER_SPEECH


def of_noise(piece_s: tuple[float, float] = (0.3, 1.0)) -> list[Clip]:
    """Make quiet, noise of any colour and level that swells and fades, tones and clicks; the same in every run."""
    rng, found = np.random.default_rng(1), []
    for number in range(NOISES):
        samples = round(rng.uniform(*piece_s) * RATE_HZ)
        level = 10 ** (rng.uniform(*LEVEL_DB) / 20)
        kind = number % 8
        if kind == 0:
            audio = np.zeros(samples)
        elif kind in (1, 2):  # one tone, or two as of a keypad
            hz = rng.uniform(150, 3000, kind)
            audio = level * np.sin(2 * np.pi * np.outer(hz, np.arange(samples)) / RATE_HZ).sum(0)
        elif kind == 3:  # clicks
            audio = np.zeros(samples)
            at = rng.integers(0, samples, rng.integers(1, 6))
            audio[at] = rng.normal(size=at.size)
            audio = 10 * level * np.convolve(audio, np.exp(-np.arange(80) / rng.uniform(2, 30)), "same")
        else:
            spectrum = np.fft.rfft(rng.normal(size=samples))
            colour = np.arange(1.0, spectrum.size + 1) ** (rng.uniform(0, STEEPEST) / 2)
            audio = np.fft.irfft(spectrum / colour, samples)
            swell_db = np.interp(np.linspace(0, 3, samples), np.arange(4), rng.normal(0.0, 6.0, 4))
            audio = level * 10 ** (swell_db / 20) * audio / audio.std()
        sound = np.clip(audio, -1.0, 1.0).astype(np.float32)
        found.append(clip(sound, f"noise-{kind}", number, "noise", ""))
    return found


def splice(first: Clip, second: Clip, rng: np.random.Generator) -> Clip | None:
    """Join the first half of one word and the second half of another: a word that nobody says, by real voices."""
    if frozenset({first.word, second.word}) in ALIKE or first.word == second.word:
        return None
    a, b = first.spoken, second.spoken
    a = a[: round(a.size * rng.uniform(0.35, 0.65))]
    b = b[round(b.size * rng.uniform(0.35, 0.65)) :]
    fade = round(SPLICE_S * RATE_HZ)
    if min(a.size, b.size) < 8 * fade:
        return None
    scale = np.sqrt(np.square(first.spoken).mean() / max(1e-12, np.square(second.spoken).mean()))
    b = b * np.float32(np.clip(scale, 0.1, 10.0))
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    joint = a[-fade:] * (1 - ramp) + b[:fade] * ramp
    audio = np.concatenate([a[:-fade], joint, b[fade:]])
    return clip(audio, first.speaker, 0, "person", "")


def phrase(words: Sequence[Clip], rng: np.random.Generator) -> Clip:
    """Join words as a sentence has them, with hardly a pause: a digit at its end is no single word."""
    loudness = np.sqrt(np.square(words[0].spoken).mean())
    parts: list[Audio] = []
    for one in words:
        own = np.sqrt(np.square(one.spoken).mean())
        parts.append(one.spoken * np.float32(np.clip(loudness / max(1e-6, own), 0.1, 10.0)))
        parts.append(np.zeros(int(rng.integers(0, round(PHRASE_PAUSE_S * RATE_HZ))), np.float32))
    audio = np.concatenate(parts[:-1])[-round(PHRASE_S * RATE_HZ) :]
    return clip(audio, words[0].speaker, 0, "person", "")


@dataclass(frozen=True)
class Draws:
    """How many examples of each kind an epoch has; by default as many as the digits' epochs have.

    Of what was tried, most commands, other words, noise and phrases: the people who choose heard these named most.

    Attributes:
        digit: of each digit.
        studio: share of a digit that is FSDD's.
        voices: share of a digit that is synthesised. People say the rest, each recording at most five times.
        command: of each of the ten commands by people; a share of ``voices`` of it by voices comes on top.
        rare: recordings of other words by people.
        synthesised: other words by voices.
        speech: pieces of other speech.
        spliced: halves of two words.
        phrases: two to four words in a row.
        noise: quiet, noise, tones and clicks.
    """

    digit: int = 400
    studio: float = 0.3
    voices: float = 0.25
    command: int = 200
    rare: int = 250
    synthesised: int = 1000
    speech: int = 100
    spliced: int = 250
    phrases: int = 250
    noise: int = 300


class Pool:
    """The recordings of a run's training by word and source. ``draws`` says how many of each an epoch draws."""

    def __init__(self, clips: Sequence[Clip], draws: Draws) -> None:
        self.clips, self.draws = clips, draws
        self._by: dict[tuple[str, Source], list[Clip]] = defaultdict(list)
        for one in clips:
            self._by[FINE_WORDS[one.label], one.source].append(one)

    def epoch(self, rng: np.random.Generator) -> list[Clip]:
        """Draw the examples of an epoch, in no order."""
        return list(self._drawn(rng))

    def _drawn(self, rng: np.random.Generator) -> Iterator[Clip]:
        draws = self.draws
        for digit in DIGITS:
            studio, voices = round(draws.studio * draws.digit), round(draws.voices * draws.digit)
            said = min(draws.digit - studio - voices, MOST_REPEATS * len(self._by[digit, "person"]))
            missing = draws.digit - studio - voices - said
            studio = studio + missing // 2 if self._by[digit, "studio"] else 0
            voices = draws.digit - said - studio
            yield from self._take(digit, "person", said, rng)
            yield from self._take(digit, "studio", studio, rng)
            yield from self._take(digit, "voice", voices, rng)
        for word in COMMANDS:
            yield from self._take(word, "person", draws.command, rng)
            yield from self._take(word, "voice", round(draws.voices * draws.command), rng)
        yield from self._take(UNKNOWN, "person", draws.rare, rng)
        yield from self._take(UNKNOWN, "voice", draws.synthesised, rng)
        yield from self._take(UNKNOWN, "speech", draws.speech, rng)
        yield from self._take(SILENCE, "noise", draws.noise, rng)
        yield from self._spliced(draws.spliced, rng)
        yield from self._phrases(draws.phrases, rng)

    def _take(self, word: str, source: Source, count: int, rng: np.random.Generator) -> Iterator[Clip]:
        """Draw evenly: nobody a second time before everybody was there once."""
        pool = self._by[word, source]
        if source == "person":
            count = min(count, MOST_REPEATS * len(pool))
        while count > 0 and pool:
            for index in rng.permutation(len(pool))[:count]:
                yield pool[int(index)]
            count -= len(pool)

    def _phrases(self, count: int, rng: np.random.Generator) -> Iterator[Clip]:
        pool = [one for one in self.clips if one.source in ("person", "studio", "voice")]
        for _ in range(count):
            words = rng.integers(0, len(pool), int(rng.integers(2, 5)))
            yield phrase([pool[int(index)] for index in words], rng)

    def _spliced(self, count: int, rng: np.random.Generator) -> Iterator[Clip]:
        pool = [one for one in self.clips if one.source in ("person", "studio") and one.word in FREQUENT]
        for _ in range(count):
            first, second = (pool[int(index)] for index in rng.integers(0, len(pool), 2))
            made = splice(first, second, rng)
            if made is not None:
                yield made


def read_pool(data: Path, draws: Draws, leave_out: str) -> tuple[Pool, list[Clip]]:
    """Read what a run trains on, and what validates it.

    Args:
        data: folder with people, studio, voices, others and speech; README.md says what they are.
        draws: of an epoch.
        leave_out: speaker of FSDD who is left out; empty for none.

    Returns:
        The pool, and the validation recordings: people, and every tenth take of FSDD.
    """
    every = of_people(data / "people", "train")
    train = [one for one in every if one.word not in HELD_OUT_WORDS]
    studio = [one for one in of_wavs(data / "studio", "studio") if one.speaker != leave_out]
    train += [one for one in studio if one.take % EVERY_TAKE]
    train += of_wavs(data / "voices", "voice")
    train += [one for one in of_wavs(data / "others", "voice") if one.word not in HELD_OUT_WORDS]
    train += of_speech(data / "speech")
    train += of_noise()
    validation = of_people(data / "people", "validation")
    # words that nobody trains on may be said by those who train
    validation += [one for one in every if one.word in HELD_OUT_WORDS]
    validation += [one for one in studio if one.take % EVERY_TAKE == 0]
    return Pool(train, draws), validation
