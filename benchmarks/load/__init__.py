"""Servers under load: those that are compared, the load, and the search for the most streams."""
