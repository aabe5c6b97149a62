"""Kills, restarts, reloads and clients that go, with real processes."""
