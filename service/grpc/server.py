"""The gRPC port of a server, on the event loop of the rest.

The library reads a whole message before anybody can count it. So a message has at most ``MOST_MESSAGE_BYTES``, and
there are as many calls at a time as all bodies together may take; one more is refused unread. A message that does not
come in time ends as a body does. One client has a share of the calls (``open_calls``), since a call
that sends nothing is open too. The library closes connections beyond a number of its own, and those without a call:
each is an open file, and HTTP needs them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from tritonclient.grpc import service_pb2_grpc

from service.admission.budget import Ledger
from service.admission.open_files import grpc_connections
from service.admission.uploads import Upload, Uploads
from service.errors import CannotListen, HetsynError, InputError, NotFound, TooSlow
from service.grpc.guard import LACKS, Guard
from service.grpc.messages import refusal
from service.grpc.servicer import Health, Servicer, client_of, next_message
from service.grpc.tls import credentials_of
from service.ingress import Ingress
from service.keys.keys import Keys
from service.keys.routes import GRPC
from service.open_inference.service import OpenInference
from service.problem import Problem
from service.settings import Limits

MOST_MESSAGE_BYTES = 1024 * 1024
SMALL_S = 2.0  # for the message of a call that needs no key: it has a few bytes
CLOSING_S = 2.0  # time for clients to read their responses

log = logging.getLogger("hetsyn.grpc")


class GrpcServer:
    """The gRPC server.

    Args:
        address: host and port to listen on; port 0 takes a free one.
        certificate: files of its chain and its private key; None speaks without TLS.
        keys: None lets everybody in.

    Attributes:
        open_calls: calls and streams by client.
        port: the port in use; 0 before ``start``.
    """

    def __init__(
        self,
        address: tuple[str, int],
        certificate: tuple[Path, Path] | None,
        service: OpenInference,
        ingress: Ingress,
        uploads: Uploads,
        limits: Limits,
        keys: Keys | None = None,
    ) -> None:
        self._address = address
        self._certificate = certificate
        self._limits = limits
        self._calls = max(1, limits.max_held_bytes // MOST_MESSAGE_BYTES)
        self._max_bytes = min(limits.max_body_bytes, MOST_MESSAGE_BYTES)
        most = max(1, int(self._calls * limits.client_share))
        full = "calls and streams{} are open: end some, or wait for answers"
        self.open_calls = Ledger(
            self._calls, most, f"{self._calls} {full.format('')}", f"{most} {full.format(' of this client')}"
        )
        self._health = Health(ingress)
        self._servicer = Servicer(service, ingress, limits.idle_timeout_s, keys)
        self._interceptors: list[grpc.aio.ServerInterceptor] = [_InTime(uploads, self.open_calls, ingress.refused)]
        if keys is not None:
            self._interceptors.insert(0, Guard(keys, ingress.refused))
        self._server: Any = None
        self.port = 0

    async def start(self) -> None:
        """Listen. A second call does nothing.

        Raises:
            CannotListen: the certificate or the port cannot be used.
        """
        if self._server is not None:
            return
        host, port = self._address
        listeners = 1
        with suppress(OSError):  # the library makes one for each address of a name, and counts each by itself
            listeners = len({where for *_, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
        connections = grpc_connections(self._limits.max_connections)
        header_ms = int(self._limits.header_timeout_s * 1e3)
        server = self._server = grpc.aio.server(
            interceptors=self._interceptors,
            maximum_concurrent_rpcs=2 * self._calls,  # half of them are just being refused, by ``open_calls``
            options=[
                ("grpc.max_receive_message_length", self._max_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", self._calls),
                ("grpc.so_reuseport", 0),
                ("grpc.max_allowed_incoming_connections", max(1, connections // listeners)),
                ("grpc.server_handshake_timeout_ms", header_ms),
                ("grpc.http2.settings_timeout", header_ms),
                ("grpc.max_connection_idle_ms", int(self._limits.idle_timeout_s * 1e3)),
            ],
        )
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self._servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        address = f"{f'[{host}]' if ':' in host else host}:{port}"
        try:
            if self._certificate is None:
                self.port = server.add_insecure_port(address)
            else:
                self.port = server.add_secure_port(address, credentials_of(*self._certificate))
        except RuntimeError as error:
            raise CannotListen(
                f"gRPC cannot listen on {address}: choose another port with --grpc-port (0 takes a free one), end the "
                "program that uses this one, or take a certificate that gRPC knows (RSA, P-256 or Ed25519)"
            ) from error
        await server.start()
        log.info("gRPC on %s", f"{address.rpartition(':')[0]}:{self.port}")

    async def close(self) -> None:
        """Accept no more calls, and give clients ``CLOSING_S`` to read their responses."""
        if self._server is not None:
            await self._server.stop(CLOSING_S)


class _InTime(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Counts the calls, and reads a call's only message within the time and the number of HTTP's bodies.

    The library would read it before anything of ours runs, and wait without a limit.
    """

    def __init__(self, uploads: Uploads, open_calls: Ledger, refused: Callable[[Exception, str], Problem]) -> None:
        self._uploads = uploads
        self._open_calls = open_calls
        self._refused = refused

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            self._refused(NotFound(LACKS), details.method)
            return handler
        codec = handler.request_deserializer, handler.response_serializer
        if handler.stream_stream is not None:

            async def converse(requests: Any, context: Any) -> None:
                await self._counted(context, details.method, lambda: handler.stream_stream(requests, context))

            return grpc.stream_stream_rpc_method_handler(converse, *codec)
        most_s = SMALL_S if GRPC.get(details.method) == "open" else None

        async def answer_alone(context: Any) -> Any:
            try:
                if handler.unary_unary is None:
                    raise NotImplementedError
                return await handler.unary_unary(await self._read(context, most_s), context)
            except HetsynError as error:  # from reading; the servicer answers all others
                await context.abort(*refusal(self._refused(error, details.method)))
            except NotImplementedError:  # the servicer lacks the method
                self._refused(NotFound(LACKS), details.method)
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, LACKS)

        async def answer(_: Any, context: Any) -> Any:
            return await self._counted(context, details.method, lambda: answer_alone(context))

        return grpc.stream_unary_rpc_method_handler(answer, *codec)

    async def _counted(self, context: Any, method: str, answer: Callable[[], Awaitable[Any]]) -> Any:
        """Answer a call, or refuse it if its client has too many."""
        client = client_of(context)
        try:
            self._open_calls.take(client)
        except HetsynError as error:
            await context.abort(*refusal(self._refused(error, method)))
        try:
            return await answer()
        finally:
            self._open_calls.give(client)

    async def _read(self, context: Any, most_s: float | None) -> Any:
        """Read the message of a call within ``most_s``; None: the time limit of a body."""
        with Upload(self._uploads, client_of(context)) as upload:
            try:
                async with asyncio.timeout(most_s), upload.under_way():
                    request = await next_message(context)
            except TimeoutError:
                raise TooSlow(f"no message came for {most_s:g} s: send it with the call") from None
        if request is grpc.aio.EOF:
            raise InputError("the call has no message: send one")
        return request
