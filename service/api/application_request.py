"""Requests that the application answers: uvicorn runs each on a task, by ASGI."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from service.admission.budget import client_of
from service.api.exchange import access_log
from service.api.messages import Field, Head
from service.observe.context import RequestContext


class ApplicationRequest(RequestResponseCycle):
    """One such request; a connection uses it like an ``Exchange``.

    Args:
        scope: the part of the ASGI scope that all requests of the connection share.
        more: headers of the response.
        responded: called after the response.
    """

    _task: asyncio.Task[None] | None = None

    def __init__(
        self,
        app: Any,
        head: Head,
        scope: dict[str, Any],
        transport: Any,
        flow: FlowControl,
        server_state: ServerState,
        more: Sequence[Field],
        responded: Callable[[], None],
    ) -> None:
        own: Any = {
            **scope,
            "http_version": head.version,
            "method": head.method.decode("ascii"),
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "headers": head.headers,
            "state": scope["state"].copy(),
        }
        super().__init__(
            scope=own,
            transport=transport,
            flow=flow,
            logger=logging.getLogger("uvicorn.error"),
            access_logger=access_log,
            access_log=access_log.hasHandlers(),
            default_headers=[*server_state.default_headers, *more],
            message_event=asyncio.Event(),
            expect_100_continue=head.expects,
            keep_alive=head.keep_alive,
            on_response=responded,
        )
        self._app = app
        self._server_state = server_state

    @property
    def client(self) -> str:
        return client_of(self.scope["client"])

    def take(self, part: bytes) -> None:
        self.body += part
        if len(self.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.message_event.set()

    def go_on(self, is_complete: bool) -> None:
        """Run the application if it does not run yet, and tell it whether the body is complete."""
        if is_complete and self.more_body:
            self.more_body = False
            self.message_event.set()
        if self._task is None and not self.disconnected:
            context = RequestContext(self.scope["headers"]).context()
            self._task = asyncio.get_running_loop().create_task(self.run_asgi(self._answer), context=context)
            self._task.add_done_callback(self._server_state.tasks.discard)
            self._server_state.tasks.add(self._task)

    def leave(self) -> None:
        """Stop: the client has gone. A commit that has begun is finished (``registry.registry``)."""
        if not self.response_complete and not self.disconnected:
            self.disconnected = True
            self.message_event.set()
            if self._task is not None:
                self._task.cancel()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self.disconnected:
                raise
