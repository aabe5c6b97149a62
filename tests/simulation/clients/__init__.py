"""Clients of a simulated world."""
