"""Servers to compare with, each a program: ``python -m benchmarks.servers.NAME --port PORT …``.

They run in an environment of their own, with ``requirements.txt`` and without torch. They import only modules of this
folder.
"""
