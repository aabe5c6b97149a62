"""A plain server: FastAPI, ONNX Runtime's exact step, and each session's state in a dict.

Unlike our server it has no expiry of sessions, no checks, no chunk numbers and no batches.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request

from benchmarks.servers.models import ExactModel, State, unpack


def create_app(graph: Path) -> FastAPI:
    app = FastAPI()
    model = ExactModel(graph)
    states: dict[str, State] = {}
    pool = ThreadPoolExecutor(os.cpu_count())  # ONNX Runtime releases the GIL; more threads than cores only contend

    def apply(session: str, end: bool, body: bytes) -> list[float]:
        probabilities, after = model.run([states.get(session, model.initial)], [unpack(body)])[0]
        if end:
            states.pop(session, None)
        else:
            states[session] = after
        return [float(value) for value in probabilities]

    @app.post("/infer")
    async def infer(request: Request, session: str, end: bool = False) -> dict[str, list[float]]:
        body = await request.body()
        return {"probabilities": await asyncio.get_running_loop().run_in_executor(pool, apply, session, end, body)}

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--graph", type=Path, required=True, help="the exact step graph")
    arguments = parser.parse_args()
    uvicorn.run(create_app(arguments.graph), host="127.0.0.1", port=arguments.port, log_level="warning")
