"""Serving: artifacts, sessions and batches of spiking networks behind an HTTP interface. No torch."""
