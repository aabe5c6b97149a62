"""Requests to the HTTP interface, and their replies."""
