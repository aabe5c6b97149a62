"""Fake models in the form of artifacts, and engines that run them."""
