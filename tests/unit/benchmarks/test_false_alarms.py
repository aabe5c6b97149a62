"""The benchmark of false alarms: what it counts, and a short run against a server."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks import false_alarms
from benchmarks.false_alarms import Heard, add_arguments, alarms, hits, run
from tests.support.paths import MODELS, ROOT

SEVEN = ROOT / "docs/recordings/seven.wav"


def test_alarms_are_counted_an_hour_for_each_threshold() -> None:
    heard = Heard(7, [("one", 0.35, (0.0, 1.0)), ("two", 0.75, (2.0, 3.0)), ("one", 0.75, (4.0, 5.0))])
    found = alarms(heard, 1_800.0)
    assert found["utterances"] == 7
    assert [row["alarms"] for row in found["curve"]] == [3] * 4 + [2] * 4 + [0] * 2
    assert [row["an_hour"] for row in found["curve"][3:5]] == [6.0, 4.0]
    # Garwood's interval of 3 events is 0.619 to 8.77, of none 0 to 3.69
    np.testing.assert_allclose([found["curve"][0][end] for end in ("low", "high")], [1.237, 17.53], rtol=1e-3)
    np.testing.assert_allclose([found["curve"][9][end] for end in ("low", "high")], [0, 7.378], rtol=1e-3)


def test_a_word_is_hit_by_an_utterance_that_meets_and_names_it() -> None:
    words = [("one", (1.0, 1.5)), ("two", (3.0, 3.5)), ("six", (5.0, 5.5))]
    named = [("one", 0.9, (0.9, 1.6)), ("one", 0.5, (2.9, 3.6)), ("six", 0.9, (6.0, 6.5))]
    first, *_, last = hits(Heard(9, named), words)["curve"]
    assert (first["hits"], first["wrong"], first["share"]) == (1, 1, pytest.approx(1 / 3))
    assert (last["threshold"], last["hits"], last["wrong"]) == (0.9, 1, 0)


def arguments(speech: Path, words: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    add_arguments(parser)
    given = ["--speech", str(speech), "--words", str(words), "--models", str(MODELS), *more]
    return parser.parse_args(given)


def test_a_digit_in_the_speech_is_an_alarm_and_among_the_words_a_hit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("speech", "words"):
        (tmp_path / name).mkdir()
    (tmp_path / "speech/prompt.wav").write_bytes(SEVEN.read_bytes())
    (tmp_path / "words/seven.wav").write_bytes(SEVEN.read_bytes())
    results = run(arguments(tmp_path / "speech", tmp_path / "words", "--minutes", "0.05"))
    assert results["speech"]["curve"][0]["alarms"] == 1
    assert results["mixed"]["curve"][0] == {"threshold": 0.0, "hits": 1, "wrong": 0, "share": 1.0}
    assert results["noise"]["duration_s"] >= 3
    assert results["over_speech"] == "none"
    assert "speech-digits" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["pink", "white"])
def test_noise_lies_below_the_sound_by_so_much(kind: str) -> None:
    rng = np.random.default_rng(0)
    samples = np.zeros(16_000, np.int16)
    samples[:8_000] = 1_000 * np.sign(rng.normal(size=8_000))
    noisy = false_alarms._noisy(false_alarms.Stream(samples, []), kind, 20.0, rng)
    assert np.std(noisy.samples[8_000:].astype(float)) == pytest.approx(100, rel=0.2)


def test_speech_that_is_all_too_long_or_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    with pytest.raises(SystemExit, match="has no wav files: give"):
        run(arguments(tmp_path, tmp_path / "words"))
    (tmp_path / "words/seven.wav").write_bytes(SEVEN.read_bytes())
    (tmp_path / "long").mkdir()
    soundfile.write(tmp_path / "long/long.wav", np.zeros(8_000 * 4), 8_000)
    with pytest.raises(SystemExit, match="no recording of 3 s or less"):
        run(arguments(tmp_path / "long", tmp_path / "words"))
