"""Tests of one module each, in milliseconds. The folders are those of the code."""
