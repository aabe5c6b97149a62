"""Streams over real HTTP: ``/stream``, ``/streams``, and their clients."""
