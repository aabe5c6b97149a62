"""``hetsyn record``: each word that is spoken becomes a file, to train on."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import typer

from hetsyn_client.errors import InputError
from hetsyn_client.terminal.backend import Backend, Frame
from hetsyn_client.terminal.command import open_standard_input
from hetsyn_client.terminal.listen import Stop, interruptible, listen
from hetsyn_client.terminal.source import Source
from hetsyn_client.terminal.standard_input import Piece
from hetsyn_client.whole_file import write_whole

CHUNK_S = 0.1
KEPT_S = 120.0  # of the input; longer utterances are not recorded
FULL_SCALE = 2**15


class Recorder:
    """Keeps the last minutes of a stream, and writes its utterances as WAV files.

    Args:
        folder: of the files, whose names are numbers. It is made with the first one.
        source: 16-bit samples of one channel.
        count: how many to record; None for all.
        stop: is set when there are so many.

    Attributes:
        recorded: how many there are.

    Raises:
        InputError: other samples.
    """

    def __init__(self, folder: Path, source: Source, count: int | None, stop: Stop) -> None:
        if source.encoding != "pcm_s16le" or source.rate_hz is None or source.channels != 1:
            raise InputError("record takes 16-bit samples of one channel, as 'arecord -f S16_LE -c 1 -r 16000' sends")
        self.recorded = 0
        self._folder = folder
        self._source = source
        self._rate_hz = source.rate_hz
        self._count = count
        self._stop = stop
        self._kept = bytearray()
        self._dropped = 0  # samples before those that are kept

    def heard(self) -> Source:
        """Return the source; what passes is kept."""
        return self._source._replace(pieces=self._keeping())

    def __call__(self, frame: Frame) -> None:
        """Write the file of an utterance that has ended."""
        if frame["type"] != "UtteranceEnd" or frame["label"] is None or self.recorded == self._count:
            return
        begin, end = (round(frame[name] * self._rate_hz) - self._dropped for name in ("start", "end"))
        if begin < 0:
            typer.echo(f"not recorded: {frame['end'] - frame['start']:.0f} s without a pause")
            return
        content = bytes(self._kept[2 * begin : 2 * end])
        path = self._write(content)
        self.recorded += 1
        peak = float(np.abs(np.frombuffer(content, "<i2").astype(np.int64)).max(initial=1))
        loudness = "too loud" if peak >= FULL_SCALE - 1 else f"{20 * np.log10(max(peak, 1) / FULL_SCALE):.0f} dB"
        typer.echo(f"{self.recorded:4}  {len(content) / 2 / self._rate_hz:5.2f} s  {loudness:>8}  {path}")
        self._stop.is_set = self._stop.is_set or self.recorded == self._count

    def _keeping(self) -> Iterator[Piece | None]:
        most = round(KEPT_S * self._rate_hz)
        for piece in self._source.pieces:
            if piece is not None:
                self._kept += piece.content
                surplus = max(0, len(self._kept) // 2 - most)
                del self._kept[: 2 * surplus]
                self._dropped += surplus
            yield piece

    def _write(self, content: bytes) -> Path:
        """Write a file under the first number that is free above all others. It appears whole.

        Raises:
            InputError: it cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self._folder}: cannot be made ({error.strerror}): name another folder") from error
        taken = [int(path.stem) for path in self._folder.glob("*.wav") if path.stem.isdecimal()]
        path = self._folder / f"{max(taken, default=0) + 1:03}.wav"
        whole = io.BytesIO()
        with wave.open(whole, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self._rate_hz)
            file.writeframes(content)
        write_whole(path, whole.getvalue(), "recording")
        return path


def record_words(backend: Backend, folder: Path, count: int | None, rate_hz: int) -> None:
    """Record the words on standard input, until it ends, there are enough, or the user presses Ctrl-C.

    Raises:
        InputError: the model finds no words in sound, the input is of another kind, or a file cannot be written.
        HetsynError: the backend fails.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: this is no folder: name one for the recordings, such as words/yes")
    described = backend.describe()
    if described["endpointing"] is None or "audio" not in described["inputs"]:
        raise InputError(f"model {described['name']!r} does not find words in sound: name another one with --model")
    with interruptible() as stop:
        source = open_standard_input(stop, CHUNK_S, "pcm_s16le", rate_hz, 1)
        recorder = Recorder(folder, source, count, stop)
        listen(backend, recorder.heard(), recorder, stop, endpointing=True)
    typer.echo(f"{folder}: {recorder.recorded} new recording{'s' * (recorder.recorded != 1)}")
