"""Synthesised voices to train on: engines, and the corpus that they speak."""

from hetsyn_model.training.voices.corpus import CorpusReport, engines_with, synthesise
from hetsyn_model.training.voices.speech import OTHER_ENGLISH, Prosody, SpeechEngine, SpeechError, Voice

__all__ = [
    "OTHER_ENGLISH",
    "CorpusReport",
    "Prosody",
    "SpeechEngine",
    "SpeechError",
    "Voice",
    "engines_with",
    "synthesise",
]
