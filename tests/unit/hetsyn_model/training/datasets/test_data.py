"""Folders of recordings, read and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hetsyn_model.training.datasets.data import DataError, read_folder, read_wav
from tests.support.data.wav import wav


def tone(samples: int = 800) -> np.ndarray:
    return (8000 * np.sin(np.arange(samples) / 5)).astype("<i2")


def test_a_folder_gives_label_speaker_and_take(tmp_path: Path) -> None:
    (tmp_path / "7_anna_12.wav").write_bytes(wav(tone().tobytes()))
    (tmp_path / "0_bob-2_3.wav").write_bytes(wav(tone().tobytes(), rate_hz=16000))
    first, second = read_folder(tmp_path, [str(digit) for digit in range(10)], 8000)
    assert (first.label, first.speaker, first.take, first.audio.size) == (0, "bob-2", 3, 400)
    assert (second.label, second.speaker, second.take, second.audio.size) == (7, "anna", 12, 800)
    assert np.array_equal(second.audio, tone().astype(np.float32) / 32768)


def test_stereo_is_averaged(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(np.repeat(tone(), 2).tobytes(), channels=2))
    assert np.allclose(read_wav(tmp_path / "a.wav", 8000), tone() / 32768)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.wav", None, "label_speaker_take"),
        ("z_anna_1.wav", None, "'z' is not one of"),
        ("1_anna_1.wav", b"RIFF", "not a PCM wav"),
        ("1_anna_1.wav", b"", "not a PCM wav"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is None:
        (tmp_path / name).write_bytes(wav(tone().tobytes()))
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_folder(tmp_path, ["1"], 8000)
    assert name in str(error.value)


def test_eight_bits_and_no_samples_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(tone().astype("u1").tobytes(), width=1))
    with pytest.raises(DataError, match="16-bit"):
        read_wav(tmp_path / "a.wav", 8000)
    (tmp_path / "a.wav").write_bytes(wav(tone(0).tobytes()))
    with pytest.raises(DataError, match="no samples"):
        read_wav(tmp_path / "a.wav", 8000)


def test_an_empty_or_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no"):
        read_folder(tmp_path, ["1"], 8000)
    with pytest.raises(DataError, match="no such folder"):
        read_folder(tmp_path / "none", ["1"], 8000)
