"""Tests of artifacts: what the exporter writes and the server reads."""
