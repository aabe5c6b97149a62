"""Second-language accents: consistent, drawn with a seed, in the names of the recordings and in a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from hetsyn_model.training.config import load_config
from hetsyn_model.training.readers import read
from hetsyn_model.training.voices import corpus
from hetsyn_model.training.voices.accents import FEATURES, FEWEST_HEARD, GROUPS, draw_accents, pronounced
from hetsyn_model.training.voices.kokoro import Kokoro
from hetsyn_model.training.voices.speech import ENGLISH, GB_IPA, US_IPA, Voice
from tests.support.tone_engine import ToneEngine

# the letters and marks of words in Kokoro's own table of symbols
SYMBOLS = set("ʣʥʦʨᵝꭧAIOQSTWYᵊabcdefhijklmnopqrstuvwxyzɑɐɒæβɔɕçɖðʤəɚɛɜɟɡɥɨɪʝɯɰŋɳɲɴøɸθœɹɾɻʁɽʂʃʈʧʊʋʌɣɤχʎʒʔˈˌːʰʲᵻ")


def test_every_feature_changes_words_into_what_kokoro_can_read() -> None:
    assert all(re.fullmatch("[a-z]+", code) for code in FEATURES)
    assert len(FEATURES) == sum(map(len, GROUPS))  # no code twice
    for code in FEATURES:
        us, gb = pronounced(US_IPA, [code]), pronounced(GB_IPA, [code])
        assert us.codes == (code,)
        assert len(set(us.words)) == len(set(gb.words)) == 10
        assert set("".join((*us.words, *gb.words))) <= SYMBOLS


def test_features_work_together() -> None:
    accent = pronounced(US_IPA, ["rtap", "ths", "tense", "devoice", "epu", "rdrop"])
    assert accent.name == "l2-ths-rdrop-rtap-tense-epu-devoice"
    assert accent.words == (
        *("zˈiɾO", "wˈʌn", "tˈu", "sɯɾˈi", "fˈɔː"),
        *("fˈIf", "sˈikɯs", "sˈɛvən", "ˈAt", "nˈIn"),
    )


def test_a_feature_that_changes_nothing_is_not_in_the_name() -> None:
    assert pronounced(GB_IPA, ["rdrop", "ths"]).codes == ("ths",)  # British English has no r there


def test_an_accent_has_several_features_and_is_drawn_with_a_seed() -> None:
    accents = draw_accents("kokoro-af-bella", US_IPA, 20)
    assert accents == draw_accents("kokoro-af-bella", US_IPA, 20)
    assert accents[:3] == draw_accents("kokoro-af-bella", US_IPA, 3)
    assert accents != draw_accents("kokoro-af-bella", US_IPA, 20, seed=1)
    assert accents != draw_accents("kokoro-af-heart", US_IPA, 20)
    assert len({accent.codes for accent in accents}) == 20
    for accent in accents:
        assert len(accent.codes) >= FEWEST_HEARD
        assert pronounced(US_IPA, accent.codes) == accent  # the name says how every word is spoken
        assert len(set(accent.words)) == 10
        for group in GROUPS:
            assert len({feature.code for feature in group} & set(accent.codes)) <= 1


def test_too_many_accents_are_refused() -> None:
    with pytest.raises(ValueError, match="speaker-a: only 0 different accents were found, not 2: ask for fewer"):
        draw_accents("speaker-a", ("kˈa", "mˈa"), 2)  # no feature changes these


def styles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("af_bella", "bf_emma", "am_adam"):
        (folder / f"{name}.bin").touch()
    monkeypatch.setenv("KOKORO_VOICES", str(folder))


def test_kokoro_speaks_accents_besides_its_other_voices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    styles(tmp_path, monkeypatch)
    plain, accented = Kokoro().voices(), Kokoro(accents=2, seed=5).voices()
    assert list(accented[: len(plain)]) == list(plain)
    drawn = accented[len(plain) :]
    assert [voice.speaker.partition("-l2-")[0] for voice in drawn] == [
        f"kokoro-{style}" for style in ("af-bella", "am-adam", "bf-emma") for _ in range(2)
    ]
    for voice in drawn:
        base = GB_IPA if "bf-emma" in voice.speaker else US_IPA
        assert voice.words == pronounced(base, voice.speaker.partition("-l2-")[2].split("-")).words
        assert re.fullmatch("[a-z0-9-]+", voice.speaker)


def test_accents_without_kokoro_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KOKORO_VOICES", raising=False)
    with pytest.raises(RuntimeError, match="accents need Kokoro, which is not installed: pip install onnxruntime"):
        corpus.engines_with(1)
    assert [engine.name for engine in corpus.engines_with()] == [engine.name for engine in corpus.ENGINES]


class PhonemeEngine(ToneEngine):
    def voices(self) -> Sequence[Voice]:
        return [Voice("phone-a", "", 1, US_IPA, phonemes=True), Voice("tone-a", "", 1, ENGLISH)]


def test_a_table_has_the_phonemes_of_the_recordings(tmp_path: Path) -> None:
    corpus.synthesise(tmp_path, available=[PhonemeEngine()])
    expected = {f"{digit}_phone-a_0.wav": word for digit, word in enumerate(US_IPA)}
    assert corpus.read_phonemes(tmp_path) == expected
    assert len(read(tmp_path, load_config("speech-digits")).items) == 20  # it is no recording
    (tmp_path / "7_phone-a_0.wav").unlink()
    corpus.synthesise(tmp_path, available=[ToneEngine("tone-b")])  # another run in the same folder
    del expected["7_phone-a_0.wav"]
    assert corpus.read_phonemes(tmp_path) == expected


def test_a_run_that_is_stopped_leaves_no_recording_without_its_phonemes(tmp_path: Path) -> None:
    def stop(done: int, _wanted: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        corpus.synthesise(tmp_path, available=[PhonemeEngine()], on_progress=stop)
    recordings = {path.name for path in tmp_path.glob("*_phone-a_*.wav")}
    assert recordings
    assert recordings <= set(corpus.read_phonemes(tmp_path))
