"""Triton's Python backend copies this file into a model's folder as ``model.py``.

It keeps the state of each sequence by its correlation id, as Triton's example of a stateful model does. The sequence
batcher binds a sequence to one instance. The chunk has the bytes of the packed events, as a UINT8 tensor of any length,
or is a BOOL tensor ``spikes`` [1, steps, channels].
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as backend

from benchmarks.servers.models import BankModel, Chunk, ExactModel, State, unpack

MODELS: dict[str, type[ExactModel] | type[BankModel]] = {"exact": ExactModel, "bank": BankModel}


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        form, graph = (parameters[key]["string_value"] for key in ("form", "graph"))
        self._model = MODELS[form](Path(graph))
        self._states: dict[int, State] = {}

    def execute(self, requests: list[Any]) -> list[Any]:
        sequences, states, chunks = [], [], []
        for request in requests:
            sequence = _value(request, "CORRID")
            # START decides, not a known id: a sequence that was broken off leaves its state here
            states.append(self._model.initial if _value(request, "START") else self._states[sequence])
            chunks.append(_chunk(request))
            sequences.append(sequence)
        responses = []
        results = self._model.run(states, chunks)
        for request, sequence, (probabilities, after) in zip(requests, sequences, results, strict=True):
            if _value(request, "END"):
                self._states.pop(sequence, None)
            else:
                self._states[sequence] = after
            output = backend.Tensor("probabilities", np.ascontiguousarray(probabilities[None]))
            responses.append(backend.InferenceResponse(output_tensors=[output]))
        return responses


def _chunk(request: Any) -> Chunk:
    packed = backend.get_input_tensor_by_name(request, "chunk")
    if packed is not None:
        return unpack(packed.as_numpy().tobytes())
    rows = backend.get_input_tensor_by_name(request, "spikes").as_numpy()[0]
    times, units = rows.nonzero()
    return Chunk(len(rows), times.astype(np.uint16), units.astype(np.uint16))


def _value(request: Any, name: str) -> Any:
    return backend.get_input_tensor_by_name(request, name).as_numpy().item()
