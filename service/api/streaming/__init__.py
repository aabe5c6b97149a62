"""``WS /stream`` and ``WS /streams``: WebSockets, and the sessions that they stream."""
