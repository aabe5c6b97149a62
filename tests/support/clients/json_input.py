"""Chunks as JSON bodies carry them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from service.runtime.onnx import Array
from tests.support.artifacts.fake_graph import CHANNELS
from tests.support.data.signals import spikes

Json = dict[str, Any]


def audio(samples: Array, rate_hz: int = 8000) -> Json:
    """
    Args:
        samples: int16 [samples].
    """
    data = base64.b64encode(samples.astype("<i2").tobytes()).decode()
    return {"kind": "audio", "encoding": "pcm_s16le", "sample_rate": rate_hz, "data": data}


def events(steps: int, seed: int = 0) -> Json:
    times, units = spikes(steps, seed)
    return {"kind": "events", "steps": steps, "times": times.tolist(), "units": units.tolist()}


def dense(steps: int, seed: int = 0) -> Json:
    """The spikes of ``events``, as rows of zeros and ones."""
    rows = np.zeros((steps, CHANNELS), int)
    rows[spikes(steps, seed)] = 1
    return {"kind": "dense", "spikes": rows.tolist()}
