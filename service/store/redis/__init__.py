"""Stores in Valkey or Redis: one server (``server``), or a cluster (``cluster``).

Each session is one string, its revision in front of its record. The server removes records on its own when their time
is over.
"""
