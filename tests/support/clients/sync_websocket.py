"""A WebSocket without asyncio, whose handshake may take as long as on a busy machine."""

from __future__ import annotations

from functools import partial

from websockets.sync import client

connect = partial(client.connect, proxy=None, open_timeout=60)
