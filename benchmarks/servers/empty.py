"""The empty endpoint, for the cost of the framework: reads a raw body, gives a constant reply of our reply's length."""

from __future__ import annotations

import argparse
import json

import uvicorn
from fastapi import FastAPI, Request, Response

# a reply of `/infer` with 20 classes, as long as a real one
REPLY = json.dumps(
    {
        "session": "s0000000",
        "model": "shd-size",
        "version": "1",
        "form": "bank",
        "seq": 10,
        "steps": 25,
        "total_steps": 275,
        "label": "class-12",
        "labels": [f"class-{index}" for index in range(20)],
        "probabilities": [0.0012226573560619727] * 20,
        "end": False,
    },
    separators=(",", ":"),
)


def create_app(reply: str | bytes = REPLY) -> FastAPI:
    app = FastAPI()

    @app.post("/infer")
    async def infer(request: Request) -> Response:
        await request.body()
        return Response(reply, media_type="application/json")

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(create_app(), host="127.0.0.1", port=parser.parse_args().port, log_level="warning")
