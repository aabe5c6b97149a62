"""The composition root: the one module that builds the parts of a server."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import ssl
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from uvicorn.server import ServerState

from service.admission.budget import Admission, Budget
from service.admission.connections import Connections
from service.admission.uploads import Uploads
from service.api.application import Application, create_application
from service.api.connection import Connection
from service.api.exchange import Door
from service.api.infer import PATH, InferPlan
from service.api.open_inference import inference_planner
from service.api.routes.metrics import ServerCollector
from service.api.streaming.many_streams import ManyStreams
from service.api.streaming.streams import Streams
from service.api.tls import TlsHandshake
from service.batching.backlog import BatchPolicy
from service.batching.batcher import ABANDON_S, Batcher
from service.carried.carry_keys import CarryKeys
from service.carried.sessions import CarriedSessions
from service.carried.token import Tokens
from service.clock import Clock, Executors
from service.engine.engine import Engine
from service.errors import HetsynError
from service.ingress import Ingress
from service.keys.keys import Keys
from service.keys.watched_files import CertificateFiles
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.observe.drops import DropLog
from service.open_inference.service import OpenInference
from service.registry.registry import SessionRegistry
from service.registry.table import SessionTable
from service.registry.transfer import SessionTransfer
from service.reload.reload import Reloader
from service.reload.smoke_test import smoke_test
from service.reload.trial_process import TrialProcess
from service.runtime.onnx import operator_status
from service.runtime.operators import OperatorStatus
from service.session.advance import Advance
from service.session.protocol import Lifetimes
from service.settings import Settings
from service.store.base import StateStore
from service.store.database import Connect
from service.store.record import Packing
from service.store.session_store import SessionStore
from service.store.url import open_store

if TYPE_CHECKING:
    from service.grpc.server import GrpcServer

log = logging.getLogger("hetsyn.app")


@dataclass(frozen=True)
class Server:
    """The parts of a server. Used from one event loop.

    Attributes:
        many: shared by all WebSockets.
        door: shared by all requests over HTTP with a chunk.
        access_keys: None lets everybody in.
    """

    settings: Settings
    catalog: ModelCatalog
    counters: Counters
    admission: Admission
    uploads: Uploads
    connections: Connections
    many: ManyStreams
    door: Door
    batcher: Batcher
    ingress: Ingress
    registry: SessionRegistry
    transfer: SessionTransfer
    carried: CarriedSessions
    reloader: Reloader
    operator: OperatorStatus
    open_inference: OpenInference
    grpc: GrpcServer | None = None
    access_keys: Keys | None = None

    async def start(self) -> None:
        """Open the session store and the gRPC port. A second call does nothing.

        Raises:
            HetsynError: the store would lose sessions, as it is configured, or the port cannot be used. The server is
                then closed.
        """
        try:
            if self.registry.sessions.store is not None:
                await self.registry.sessions.store.start()
            if self.grpc is not None:
                await self.grpc.start()
        except HetsynError:
            await self.close()
            raise

    async def refuse(self) -> None:
        """Refuse the chunks that are not finished, and end the streams which that does not end."""
        self.batcher.stop()
        await asyncio.sleep(ABANDON_S)  # results on their way are still told, and chunks that run may end
        self.many.streams.cut()

    async def close(self) -> None:
        """Finish and commit the requests in flight, end the threads and close the store."""
        await self.admission.finish()
        if self.grpc is not None:
            await self.grpc.close()
        await self.batcher.close()
        if self.registry.sessions.store is not None:
            await self.registry.sessions.store.close()

    def protocol(self, *arguments: Any, **more: Any) -> Connection:
        """Make a connection; uvicorn calls it like its own class. Arguments of ``Connection`` after ``door``."""
        return Connection(self.connections, self.many, self.door, *arguments, **more)

    def protocol_over_tls(self, context: ssl.SSLContext, *, server_state: ServerState, **more: Any) -> TlsHandshake:
        """Make a connection over TLS, as ``protocol``."""
        follow = partial(self.protocol, server_state=server_state, **more)
        return TlsHandshake(self.connections, context, server_state, follow)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the server, sweep and reload within the context, and close the server at its end."""
        await self.start()
        interval_s = self.settings.retention.sweep_interval_s
        tasks = [
            asyncio.create_task(self.registry.sweep_forever(interval_s)),
            asyncio.create_task(self.reloader.run_forever()),
            asyncio.create_task(self.counters.timings.watch_lag()),
        ]
        if self.access_keys is not None:
            tasks.append(asyncio.create_task(self.access_keys.run_forever()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            try:
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(result, Exception):
                        log.error("a background task of the server failed", exc_info=result)
            finally:
                await self.close()


def build_server(
    settings: Settings,
    catalog: ModelCatalog | None = None,
    clock: Clock = time.monotonic,
    *,
    store: StateStore | None = None,
    wall: Clock = time.time,
    keys: CarryKeys | None = None,
    trial_process: TrialProcess | None = None,
    deadlines: Clock = time.monotonic,
    executors: Executors = ThreadPoolExecutor,
    connect: Connect = sqlite3.connect,
) -> Server:
    """Build a server.

    Args:
        catalog: None makes that of the folder ``settings.models``. An empty one is loaded.
        clock: seconds, for the times of sessions in memory.
        store: None opens the store that ``settings.store`` names.
        wall: seconds since 1970, for the times of stored, exported and carried sessions.
        keys: the keys of carried sessions; None refuses these.
        trial_process: loads and tests models first; None skips that.
        deadlines: seconds, for the time limits of requests.
        executors: makes the threads of the engine and of a store.
        connect: opens the database of a file store.

    Raises:
        ArtifactError: the folder has no usable models, or the default model is not among them.
        StoreUnusable: ``settings.store`` names no store, or one that cannot be used.
        RuntimeUnavailable: there is no ONNX Runtime.
        KeysUnusable: ``settings.access`` names a keys file that cannot be used.
    """
    limits, retention, batching = settings.limits, settings.retention, settings.batching
    access = settings.access
    if access.keys is not None:  # clients are keys
        limits = replace(limits, client_share=limits.key_share)
    catalog = catalog or ModelCatalog(settings.models, is_empty=True, max_model_bytes=settings.max_model_bytes)
    store = store or open_store(settings.store.url, settings.store.timeout_s, wall, executors, connect)
    counters = Counters()
    counters.timings.has_store = store is not None
    counters.on_drop = DropLog(deadlines)
    access_keys = None if access.keys is None else Keys(access.keys, deadlines, wall)
    lifetimes = Lifetimes(
        retention.session_idle_s,
        retention.session_age_s,
        retention.ended_keep_s,
        # with a store, the session stays even if this process forgets it
        retention.first_chunk_idle_s if store is None else inf,
    )
    packing = Packing()
    budget = Budget(limits)
    admission = Admission(budget, limits.queue_timeout_s, deadlines)
    uploads = Uploads(admission, limits.body_timeout_s)
    engine = Engine(limits.max_chunk_steps)
    batcher = Batcher(
        engine,
        BatchPolicy(batching.max_batch),
        batching.engine_threads,
        batching.inline_s,
        deadlines,
        max_work=limits.max_waiting_steps,
        client_share=limits.client_share,
        timings=counters.timings,
        executors=executors,
    )
    advance = Advance(engine, batcher.run, catalog, counters)
    session_store = (
        None if store is None else SessionStore(store, packing, catalog, lifetimes, counters, settings.store.timeout_s)
    )
    sessions = SessionTable(
        limits, lifetimes, retention.sweep_interval_s, counters, clock, wall, access_keys, session_store
    )
    tokens = None if keys is None else Tokens(keys, catalog, lifetimes, counters, wall)
    reloader = Reloader(
        catalog,
        lambda model: smoke_test(model, engine),
        counters,
        settings.watch_s,
        settings.load_timeout_s,
        trial_process,
    )
    if not catalog.names:
        reloader.load()
    registry = SessionRegistry(sessions, advance, batcher, counters)
    carried = CarriedSessions(tokens, advance, counters, wall)
    ingress = Ingress(
        registry,
        carried,
        admission,
        uploads,
        counters,
        limits,
        lambda: max((model.manifest.input.step_s for model in catalog.models()), default=inf),
    )
    open_inference = OpenInference(catalog, limits, retention)
    grpc: GrpcServer | None = None
    if settings.grpc_port is not None:
        from service.grpc.server import GrpcServer  # it needs an extra

        grpc = GrpcServer(
            (settings.host, settings.grpc_port),
            access.certificate,
            open_inference,
            ingress,
            uploads,
            limits,
            access_keys,
        )
    streams = Streams(ingress, admission, counters, settings.cors_origins, access_keys)
    many = ManyStreams(streams, limits)
    planners = {PATH: partial(InferPlan, limits=limits)}
    find = partial(inference_planner, open_inference, limits, settings.cors_origins)
    return Server(
        settings=settings,
        catalog=catalog,
        counters=counters,
        admission=admission,
        uploads=uploads,
        connections=Connections(limits, counters, budget),
        many=many,
        door=Door(ingress, counters, access_keys, planners, find, settings.cors_origins),
        batcher=batcher,
        ingress=ingress,
        registry=registry,
        transfer=SessionTransfer(sessions, tokens, counters),
        carried=carried,
        reloader=reloader,
        operator=operator_status() if catalog.device is None else operator_status().on(catalog.device.name),
        open_inference=open_inference,
        grpc=grpc,
        access_keys=access_keys,
    )


def create_app(
    settings: Settings,
    catalog: ModelCatalog | None = None,
    clock: Clock = time.monotonic,
    *,
    store: StateStore | None = None,
    wall: Clock = time.time,
    keys: CarryKeys | None = None,
    trial_process: TrialProcess | None = None,
    certificate: CertificateFiles | None = None,
) -> Application:
    """Build a server and its HTTP application.

    The server starts and closes with the application, and is its ``state.server``. Other arguments and the errors are
    those of ``build_server``.

    Args:
        certificate: of the HTTP port; None speaks without TLS.
    """
    server = build_server(settings, catalog, clock, store=store, wall=wall, keys=keys, trial_process=trial_process)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with server.running():
            yield

    app = application_of(server, lifespan, certificate)
    app.state.server = server
    return app


def application_of(
    server: Server,
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]],
    certificate: CertificateFiles | None = None,
) -> Application:
    """Build the HTTP application of a server. Arguments as of ``create_application`` and ``create_app``."""
    limits, origins = server.settings.limits, server.settings.cors_origins
    return create_application(
        limits,
        catalog=server.catalog,
        ingress=server.ingress,
        transfer=server.transfer,
        streams=server.many.streams,
        collector=ServerCollector(
            server.counters,
            server.ingress,
            server.uploads,
            server.connections,
            server.batcher,
            server.catalog,
            server.operator,
            limits,
            server.access_keys,
            certificate,
        ),
        counters=server.counters,
        operator=server.operator,
        open_inference=server.open_inference,
        lifespan=lifespan,
        cors_origins=origins,
        keys=server.access_keys,
    )
