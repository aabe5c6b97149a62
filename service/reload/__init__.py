"""Loads and tests models: at the start, and when their folder changes."""
