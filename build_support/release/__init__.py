"""``make release``: builds what is released from the tracked files, checks it, and tries it. It publishes nothing."""
