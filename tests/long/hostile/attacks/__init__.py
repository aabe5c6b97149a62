"""The attacks, an area a file. Each has its `CASES`."""
