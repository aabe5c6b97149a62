"""Keys: what each request needs, limits, and who gets in."""
