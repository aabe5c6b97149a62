"""Ray Serve with the exact step: one replica, so that a session has one state, in a dict. Raw bodies."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# no telemetry, and no token file in the user's home
os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"})
import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.requests import Request
from starlette.responses import JSONResponse

from benchmarks.servers.models import ExactModel, State, unpack


class ExactStepDeployment:
    def __init__(self, graph: str) -> None:
        self._model = ExactModel(Path(graph))
        self._states: dict[str, State] = {}
        self._pool = ThreadPoolExecutor(os.cpu_count())

    async def __call__(self, request: Request) -> JSONResponse:
        body = await request.body()
        session, end = request.query_params["session"], request.query_params["end"] == "true"
        loop = asyncio.get_running_loop()
        probabilities = await loop.run_in_executor(self._pool, self._apply, session, end, body)
        return JSONResponse({"probabilities": probabilities})  # a plain dict would be sent in pieces, without a length

    def _apply(self, session: str, end: bool, body: bytes) -> list[float]:
        probabilities, after = self._model.run([self._states.get(session, self._model.initial)], [unpack(body)])[0]
        if end:
            self._states.pop(session, None)
        else:
            self._states[session] = after
        return [float(value) for value in probabilities]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--graph", type=Path, required=True, help="the exact step graph")
    arguments = parser.parse_args()
    stopped = {signal.SIGTERM, signal.SIGINT}
    # blocked before Ray starts its threads, so that the signal waits for sigwait below
    signal.pthread_sigmask(signal.SIG_BLOCK, stopped)
    # a short folder: Ray's socket paths must stay below 107 bytes
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="warning", _temp_dir=folder)
        quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
        serve.start(http_options={"host": "127.0.0.1", "port": arguments.port}, logging_config=quiet)
        deployment = serve.deployment(
            ExactStepDeployment, num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1}
        )
        serve.run(deployment.bind(str(arguments.graph.resolve())), route_prefix="/infer", logging_config=quiet)
        signal.sigwait(stopped)
        ray.shutdown()


if __name__ == "__main__":
    main()
