"""Routes without a chunk: the page, descriptions, health, metrics, models and sessions."""
