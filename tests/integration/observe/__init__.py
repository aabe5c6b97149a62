"""Metrics, traces, health, and the files of the monitoring."""
