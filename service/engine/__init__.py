"""Computes batches: cuts input into steps, encodes it, runs the network, and finds utterances. Without event loop."""
