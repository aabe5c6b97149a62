"""LitServe with the exact step: one worker, so that a session has one state, in a dict.

Its requests are JSON, so the packed events come in base64. LitServe takes the waiting requests as a batch, and the
streams of the batch run on a thread a core.
"""

# no `from __future__ import annotations`: LitServe reads the annotation of decode_request at run time
import argparse
import base64
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import litserve
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from benchmarks.servers.models import ExactModel, State, unpack


class ChunkRequest(BaseModel):
    """
    Attributes:
        chunk: packed events in base64.
    """

    session: str
    end: bool
    chunk: str


class StreamApi(litserve.LitAPI):  # type: ignore[misc]
    def __init__(self, graph: Path) -> None:
        super().__init__(max_batch_size=16, batch_timeout=0.0)
        self._path = graph

    def setup(self, device: str) -> None:  # noqa: ARG002
        # here and not earlier: this runs in the worker's process
        self._model = ExactModel(self._path)
        self._states: dict[str, State] = {}
        self._pool = ThreadPoolExecutor(os.cpu_count())

    def decode_request(self, request: ChunkRequest) -> tuple[str, bool, bytes]:
        return request.session, request.end, base64.b64decode(request.chunk)

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, requests: list[tuple[str, bool, bytes]]) -> list[NDArray[np.float32]]:
        return list(self._pool.map(self._apply, requests))

    def unbatch(self, output: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return output

    def encode_response(self, output: NDArray[np.float32]) -> dict[str, list[float]]:
        return {"probabilities": [float(value) for value in output]}

    def _apply(self, request: tuple[str, bool, bytes]) -> NDArray[np.float32]:
        session, end, body = request
        probabilities, after = self._model.run([self._states.get(session, self._model.initial)], [unpack(body)])[0]
        if end:
            self._states.pop(session, None)
        else:
            self._states[session] = after
        return probabilities


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--graph", type=Path, required=True, help="the exact step graph")
    arguments = parser.parse_args()
    server = litserve.LitServer(
        StreamApi(arguments.graph), accelerator="cpu", devices=1, workers_per_device=1, timeout=False
    )
    server.run(
        host="127.0.0.1", port=arguments.port, num_api_servers=1, log_level="warning", generate_client_file=False
    )
