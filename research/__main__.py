"""``python -m research NAME``, in a checkout: run one of the paper's experiments."""

from __future__ import annotations

from research.commands import experiment

experiment(prog_name="python -m research")
