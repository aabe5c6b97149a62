"""A session as a value, and its protocol: what a chunk does to it. Without event loop and clock."""
