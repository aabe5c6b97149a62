"""Torch, where it is installed, seeded and on one thread."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded_torch() -> None:
    torch.manual_seed(0)
