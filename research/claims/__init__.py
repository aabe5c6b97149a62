"""Claims, their measures and rules, and the verdicts."""
