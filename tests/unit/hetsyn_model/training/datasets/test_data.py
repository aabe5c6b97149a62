"""Folders of recordings, read and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hetsyn_model.training.datasets.data import DataError, read_folder, read_wav
from tests.support.data.wav import at_0_hz, wav


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
        ("1_anna_1.wav", b"RIFF", "the WAV file is cut off within its header"),
        ("1_anna_1.wav", b"", "the WAV file is cut off within its header"),
        ("1_anna_1.wav", wav(tone().tobytes())[:-2], "declares 1600 bytes of samples, but contains 1598"),
        ("1_anna_1.wav", at_0_hz(wav(tone().tobytes())), "a rate of 0 Hz: its header is damaged"),
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


def test_samples_of_8_and_24_bits_are_read_as_the_server_reads_them(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(bytes([0, 128, 192]), width=1))
    assert read_wav(tmp_path / "a.wav", 8000).tolist() == [-1.0, 0.0, 0.5]
    (tmp_path / "a.wav").write_bytes(wav(bytes([0, 0, 0x80, 0, 0, 0x40]), width=3))
    assert read_wav(tmp_path / "a.wav", 8000).tolist() == [-1.0, 0.5]


def test_no_samples_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(tone(0).tobytes()))
    with pytest.raises(DataError, match="no samples"):
        read_wav(tmp_path / "a.wav", 8000)


def test_an_empty_or_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no"):
        read_folder(tmp_path, ["1"], 8000)
    with pytest.raises(DataError, match="no such folder"):
        read_folder(tmp_path / "none", ["1"], 8000)
