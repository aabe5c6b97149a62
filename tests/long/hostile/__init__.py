"""Attacks on a running server: small requests that take much, odd framing, damaged stores, graphs that read files.

Each case starts servers, attacks them, and compares what it saw with a bound that the defence has to keep. Cases that
need a program that is missing (HAProxy, Valkey) or root are skipped with the reason.
"""
