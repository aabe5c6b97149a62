"""HTTP itself: connections, messages, framing, and the OpenAPI document."""
