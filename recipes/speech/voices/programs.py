"""Engines that are programs: espeak-ng, Flite, Festival and SVOX Pico."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from recipes.speech.voices.speech import DUTCH, FRENCH, GERMAN, Prosody, Samples, SpeechError, Voice

SPEAK_TIMEOUT_S: Final = 30.0


def _wav_of(command: Callable[[str], Sequence[str]]) -> tuple[Samples, int]:
    """Run a command that writes a WAV file, and read the file.

    Args:
        command: the command line for a path.

    Returns:
        Mono samples in [-1, 1], [n], and their rate in Hz.

    Raises:
        SpeechError: the command fails or writes something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "spoken.wav")  # noqa: PTH118 - goes into a command line
        arguments = command(path)
        try:
            subprocess.run(arguments, check=True, capture_output=True, timeout=SPEAK_TIMEOUT_S)
            samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        except (subprocess.SubprocessError, OSError, soundfile.LibsndfileError) as error:
            raise SpeechError(f"{arguments[0]}: {error}") from error
        return samples[:, 0], rate_hz


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

    def speak(self, text: str, voice: Voice, prosody: Prosody) -> tuple[Samples, int]:
        pitch = round(50 + 100 * (prosody.pitch_ratio - 1))  # counts 0 to 99 around 50
        options = ["-p", str(min(max(pitch, 0), 99)), "-s", str(round(155 / prosody.stretch))]
        # Without -D the breath of a few voices is another one in every run.
        command = ["espeak-ng", "-D", "-v", voice.code, *options, "-w"]
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

    def speak(self, text: str, voice: Voice, prosody: Prosody) -> tuple[Samples, int]:
        pitch_hz = self._mean_pitch_hz[voice.code] * prosody.pitch_ratio
        options = ["--setf", f"duration_stretch={prosody.stretch:.3f}"]
        options += ["--setf", f"int_f0_target_mean={pitch_hz:.1f}"]
        command = ["flite", "-voice", voice.code, *options, "-t", text, "-o"]
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
        installed = {path.name for path in Path("/usr/share/festival/voices").glob("*/*")}
        return [voice for voice in self._voices if voice.code in installed]

    def speak(self, text: str, voice: Voice, prosody: Prosody) -> tuple[Samples, int]:
        if voice.code.endswith("_hts"):
            semitones = 12 * np.log2(prosody.pitch_ratio)
            extra = f'(list "-r" {1 / prosody.stretch:.3f}) (list "-fm" {semitones:.2f})'
            script = f"(set! hts_engine_params (append hts_engine_params (list {extra})))"
        else:
            target = f"(target_f0_mean {105 * prosody.pitch_ratio:.1f}) (target_f0_std 14)"
            script = f"(set! int_lr_params '({target} (model_f0_mean 170) (model_f0_std 34)))"
            script += f"(Parameter.set 'Duration_Stretch {prosody.stretch:.3f})"
        # text2wave evaluates one expression and reads its text from a file.
        expression = f"(begin (voice_{voice.code}) {script})"
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

    def speak(self, text: str, voice: Voice, prosody: Prosody) -> tuple[Samples, int]:
        speed, pitch = f"{1 / prosody.stretch:.3f}", f"{prosody.pitch_ratio:.3f}"
        # At its full volume Pico clips.
        spoken = ["-v", voice.code, "--speed", speed, "--pitch", pitch, "--volume", "0.4", text]
        return _wav_of(lambda path: [sys.executable, "-m", "py_nanotts", *spoken, "-o", path])
