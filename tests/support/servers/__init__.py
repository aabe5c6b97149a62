"""Servers as tests start them, and what stands in front of them."""
