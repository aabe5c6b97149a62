"""Synthesised voices to train on: engines, and the corpus that they speak."""

from hetsyn_model.training.voices.corpus import CorpusReport, synthesise
from hetsyn_model.training.voices.speech import Engine, Settings, SpeechError, Voice

__all__ = ["CorpusReport", "Engine", "Settings", "SpeechError", "Voice", "synthesise"]
