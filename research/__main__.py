"""``python -m research NAME``, in a checkout: run one of the paper's experiments."""

from __future__ import annotations

import torch

from research.commands import experiment

# for the whole process: gradients fade into denormal numbers, and a step with those takes five times as long
torch.set_flush_denormal(True)
experiment(prog_name="python -m research")
