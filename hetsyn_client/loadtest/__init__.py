"""``hetsyn bench``: puts a server under load, in an open or a closed loop, and measures its latency."""
