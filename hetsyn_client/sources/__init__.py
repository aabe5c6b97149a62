"""Where chunks come from: arrays and files."""
