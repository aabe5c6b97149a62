"""Inputs that were changed at random or made to cost much, and every decoder that they reach."""
