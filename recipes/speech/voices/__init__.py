"""Synthesised voices to train on: engines, and the corpora that they speak."""
