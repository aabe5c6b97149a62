"""A HetSyn network of values with a spiking output, exported, and what torch answers in its bank form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from export import export_network
from hetsyn_model import DecisionSpec, Network, NetworkSpec
from service.runtime.onnx import Array

CHANNELS, LABELS = 3, ("rises", "falls", "rests", "swings")
TOLERANCE = 1e-6  # of a probability: the counts are whole numbers and the same everywhere


def write_grey(models: Path) -> Path:
    """Export it as ``grey``; the folder of its version."""
    examples = np.random.default_rng(9).normal(size=(4, 50, CHANNELS)).astype(np.float32)
    out = models / "grey" / "1"
    export_network(_network(), out=out, labels=LABELS, examples=examples, input_description="a sensor")
    return out


def expected(values: Array) -> Array:
    """Probabilities after rows of values [steps, channels]."""
    with torch.no_grad():
        answer: Array = _network().rollout(torch.from_numpy(values[None]), "bank").probabilities[0].numpy()
    return answer


def _network() -> Network:
    spec = NetworkSpec(
        CHANNELS, (16, 12), len(LABELS), step_s=0.01, decision=DecisionSpec("spike_count"), input_kind="values"
    )
    made = Network(spec, seed=4).eval()
    with torch.no_grad():
        for layer in made.layers:  # so that every layer fires
            layer.get_parameter("w_in").mul_(2.0)
    made.fit_banks()
    return made
