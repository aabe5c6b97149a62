"""The sessions of a process: one table, turns, quotas, and the way of a chunk through a session."""
