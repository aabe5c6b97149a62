"""Small networks of every kind, NIR graphs, and what compares implementations of a step."""
