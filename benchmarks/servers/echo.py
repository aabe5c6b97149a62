"""A bare WebSocket in uvicorn: each message is answered by a text as long as a `Result`, and nothing is computed."""

from __future__ import annotations

import argparse
from typing import Any

import uvicorn

ANSWER = (
    '{"type":"Result","seq":100,"label":"seven","probabilities":[' + ",".join(["0.0012226573560619727"] * 10) + "]}"
)


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": ANSWER})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(echo, host="127.0.0.1", port=parser.parse_args().port, log_level="warning", lifespan="off")
