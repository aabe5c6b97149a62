"""Plans, runs and their results: what is trained, in which order, and what came out."""
