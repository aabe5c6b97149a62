"""Servers to compare with, each a program: ``python -m benchmarks.servers.NAME --port PORT …``.

They run in a Python of their own, with ``requirements.txt`` installed and without torch, and import nothing of ours
but each other.
"""
