"""``hetsyn bench``: load for a server, open loop or closed, and what it did to the latency."""
