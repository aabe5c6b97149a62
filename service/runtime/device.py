"""Chooses a GPU. Graphs run on it in plain ONNX, by ONNX Runtime's CUDA provider; states stay on the host.

None of this was run on a GPU (docs/guides/gpu.md).
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from service.errors import RuntimeUnavailable
from service.runtime.onnx import CUDA, GraphLoader, cuda_problem, load_cuda_graph, providers
from service.settings import DeviceChoice

log = logging.getLogger("hetsyn.device")


class Device(NamedTuple):
    """A device beside the CPU that runs networks. ``load`` makes a graph that runs on it."""

    name: str
    load: GraphLoader


GPU = Device("the GPU", load_cuda_graph)
"""The first visible one: CUDA_VISIBLE_DEVICES chooses another."""


def open_device(choice: DeviceChoice) -> Device | None:
    """Open the device that computes networks; None for the CPU.

    Args:
        choice: ``auto`` is a GPU if one can be used, else the CPU.

    Raises:
        RuntimeUnavailable: the choice is ``cuda`` and no GPU can be used; the message says why and what to do.
    """
    if choice == "cpu":
        return None
    reason = cuda_problem()
    if reason is None:
        return GPU
    if choice == "cuda":
        raise RuntimeUnavailable(f"no GPU can be used: {reason}")
    # tell the operator of an installation for GPUs; the CPU's ONNX Runtime needs no warning
    level = logging.WARNING if CUDA in providers() else logging.DEBUG
    log.log(level, "no GPU can be used, networks run on the CPU: %s", reason)
    return None
