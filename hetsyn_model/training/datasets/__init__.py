"""Reads labelled data of every kind, divides them, and prepares them for a run."""
