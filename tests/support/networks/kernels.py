"""The recursion that defines fractional kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def gruenwald_letnikov(order: float, decay: float, steps: int) -> NDArray[np.float64]:
    """Impulse response of ``v(t) (1 + rate) = rate u(t) - sum_(j>0) b_j v(t-j)``, whose sum is 1, step by step.

    Args:
        decay: r, with ``rate = (1 - r) / r``.
    """
    rate = (1.0 - decay) / decay
    b = np.cumprod(np.concatenate([[1.0], 1.0 - (1.0 + order) / np.arange(1, steps)]))
    v = np.zeros(steps)
    v[0] = rate / (1.0 + rate)
    for t in range(1, steps):
        v[t] = -np.dot(b[1 : t + 1], v[t - 1 :: -1]) / (1.0 + rate)
    return v
