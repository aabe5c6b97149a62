"""How the shipped speech models are made and judged; README.md has the commands."""
