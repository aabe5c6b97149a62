"""``hetsyn inspect``: shows what an artifact's manifest and weights say, in a terminal and as JSON."""
