"""Defects as patches, and the command that plants them."""
