"""Stores of sessions, several servers around one store, and records changed behind a server's back."""
