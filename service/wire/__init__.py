"""The wire formats: decodes requests and encodes replies."""
