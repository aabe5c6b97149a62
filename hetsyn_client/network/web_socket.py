"""Opens WebSockets for both transports, and explains errors. The library is websockets."""

from __future__ import annotations

from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from hetsyn_client.access import Access
from hetsyn_client.protocol.steps import Broken, retry_after_s

SUBPROTOCOL = Subprotocol("hetsyn.v1")
CLOSING_S = 1.0
BREAKS = (InvalidHandshake, InvalidURI, ConnectionClosed, OSError)  # TimeoutError is an OSError


def address(access: Access, target: str) -> str:
    """Write the address of a WebSocket."""
    return f"ws{access.url.removeprefix('http')}{target}"


def arguments(access: Access, timeout_s: float) -> dict[str, Any]:
    """Name the arguments of ``connect``, of threads or of asyncio."""
    trusted = {} if access.tls is None else {"ssl": access.tls}
    return trusted | {
        "subprotocols": [SUBPROTOCOL],
        "compression": None,
        "additional_headers": access.headers,
        "open_timeout": timeout_s,
        "close_timeout": CLOSING_S,
        "max_size": None,
        "proxy": None,
    }


def broken(error: Exception, timeout_s: float = 0.0) -> Broken:
    """Make the error of a connection that broke, or that was not opened within a time."""
    if isinstance(error, InvalidStatus):
        refusal = error.response
        return Broken(
            f"the server answers {refusal.status_code}",
            status=refusal.status_code,
            retry_after_s=retry_after_s(refusal.headers),
            body=bytes(refusal.body or b""),
        )
    return Broken(str(error) or type(error).__name__, waited_s=timeout_s if isinstance(error, TimeoutError) else 0.0)
