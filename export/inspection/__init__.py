"""``hetsyn inspect``: shows what an artifact's manifest and weights say, in a terminal, as JSON and as a page."""
