"""Faults, attacks and full products, for hours."""
