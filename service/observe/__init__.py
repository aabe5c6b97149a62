"""Counters, times, logs and traces of the server."""
