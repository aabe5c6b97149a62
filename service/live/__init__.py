"""The protocols of ``/stream`` and ``/streams`` as state machines, without input, output or event loop."""
