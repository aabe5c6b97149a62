"""Helpers of several test modules. Here: clock, seed, paths, pairs, plugins of pytest, and reasons to skip."""
