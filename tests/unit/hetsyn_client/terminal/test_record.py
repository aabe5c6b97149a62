"""Words that are recorded are the samples of their utterances."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hetsyn_client.errors import InputError
from hetsyn_client.terminal import record
from hetsyn_client.terminal.backend import Frame
from hetsyn_client.terminal.listen import Stop
from hetsyn_client.terminal.record import Recorder
from hetsyn_client.terminal.source import Source
from hetsyn_client.terminal.standard_input import Piece
from tests.support.small_disk import small_disk

RATE_HZ = 1_000
SAMPLES = np.arange(5_000, dtype="<i2")


def source(samples: np.ndarray = SAMPLES, channels: int = 1) -> Source:
    def pieces() -> Iterator[Piece | None]:
        for part in np.array_split(samples, 50):
            yield Piece(part.tobytes())
            yield None

    return Source("standard input", "pcm_s16le", RATE_HZ, channels, pieces())


def end(start_s: float, end_s: float, label: str | None = "four") -> Frame:
    return {"type": "UtteranceEnd", "start": start_s, "end": end_s, "label": label}


def samples_of(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE_HZ)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def passed(recorder: Recorder, pieces: int | None = None) -> None:
    """Let pieces of the source pass."""
    for number, _ in enumerate(recorder.heard().pieces, 1):
        if number == pieces:
            return


def test_a_word_is_the_samples_of_its_utterance(tmp_path: Path) -> None:
    folder = tmp_path / "words" / "yes"
    recorder = Recorder(folder, source(), None, Stop())
    passed(recorder)
    recorder({"type": "Result"})
    recorder(end(1.0, 1.25))
    recorder(end(1.25, 2.0, None))
    recorder(end(2.0, 3.5))
    assert sorted(path.name for path in folder.iterdir()) == ["001.wav", "002.wav"]
    assert np.array_equal(samples_of(folder / "001.wav"), SAMPLES[1000:1250])
    assert np.array_equal(samples_of(folder / "002.wav"), SAMPLES[2000:3500])
    assert recorder.recorded == 2


def test_numbers_go_on_after_the_highest(tmp_path: Path) -> None:
    for name in ("003.wav", "012.wav", "a.wav", "014.flac"):
        (tmp_path / name).write_bytes(b"kept")
    recorder = Recorder(tmp_path, source(), None, Stop())
    passed(recorder)
    recorder(end(0, 1))
    assert len(samples_of(tmp_path / "013.wav")) == 1000
    assert (tmp_path / "012.wav").read_bytes() == b"kept"


def test_it_stops_when_there_are_enough(tmp_path: Path) -> None:
    stop = Stop()
    recorder = Recorder(tmp_path, source(), 2, stop)
    passed(recorder)
    for second in range(4):
        assert stop() == (second >= 2)
        recorder(end(second, second + 1))
    assert len(list(tmp_path.iterdir())) == 2


def test_only_the_last_minutes_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "KEPT_S", 2.0)
    recorder = Recorder(tmp_path, source(), None, Stop())
    passed(recorder)
    recorder(end(2.5, 4.0))
    recorder(end(3.5, 4.0))
    assert "not recorded: 2 s without a pause" in capsys.readouterr().out
    assert np.array_equal(samples_of(tmp_path / "001.wav"), SAMPLES[3500:4000])


@pytest.mark.parametrize(
    ("peak", "shown"), [(32_767, "too loud"), (-32_768, "too loud"), (16_384, "-6 dB"), (0, "-90 dB")]
)
def test_the_peak_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], peak: int, shown: str) -> None:
    samples = np.zeros(1_000, "<i2")
    samples[500] = peak
    recorder = Recorder(tmp_path, source(samples), None, Stop())
    passed(recorder)
    recorder(end(0, 1))
    assert f"1.00 s  {shown:>8}" in capsys.readouterr().out


def test_other_samples_are_refused(tmp_path: Path) -> None:
    for other in (source(channels=2), source()._replace(encoding="mulaw"), source()._replace(encoding="pcm_f32le")):
        with pytest.raises(InputError, match="16-bit samples of one channel"):
            Recorder(tmp_path / "new", other, None, Stop())
    assert not (tmp_path / "new").exists()


def test_a_recording_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    recorder = Recorder(tmp_path / "file" / "yes", source(), None, Stop())
    passed(recorder)
    with pytest.raises(InputError, match=r"cannot be made \(Not a directory\): name another folder"):
        recorder(end(0, 1))
    with small_disk(tmp_path / "disk", 8192) as disk:
        recorder = Recorder(disk / "yes", source(), None, Stop())
        passed(recorder)
        with pytest.raises(InputError, match=r"recording .*001.wav: cannot be written \(No space left on device\)"):
            recorder(end(0, 9))
        assert list((disk / "yes").iterdir()) == []
