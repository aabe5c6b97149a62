"""API keys: the keys file, callers, scopes and rate limits."""
