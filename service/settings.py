"""Settings of a server: frozen values, none read from the environment. ``hetsyn serve`` has an option for each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

DeviceChoice = Literal["auto", "cpu", "cuda"]
FormsChoice = Literal["any", "default"]

_MAY_BE_ZERO = ("port", "watch_s", "drain_s", "finish_s", "inline_s")


class _Checked:
    """Refuses numbers below 0, and 0 itself where it has no meaning."""

    def __post_init__(self) -> None:
        values: Any = self
        for option in fields(values):
            value = getattr(self, option.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if value < 0 or (value == 0 and option.name not in _MAY_BE_ZERO):
                raise ValueError(f"{option.name}: {value} is not above 0")


@dataclass(frozen=True)
class Limits(_Checked):
    """The most that a server accepts.

    Attributes:
        max_body_bytes: length of one request's body; a longer one is refused while it is read.
        max_upload_bytes: total length of all bodies, until their requests are answered; more displaces slow bodies, or
            is refused. Bodies of up to 64 KiB that arrive in one piece do not count.
        max_uploads: bodies that are not complete yet; one more displaces the oldest, which gets 408.
        max_unread_bytes: of responses that clients do not read, in this process and in the system's buffers; beyond it,
            the connections that have not read for longest are ended.
        max_connections: TCP connections; one more displaces the one that has waited the longest without a request, or
            whose client does not read its replies.
        client_share: share of ``max_connections``, ``max_uploads``, ``max_upload_bytes``, ``max_unread_bytes``,
            ``max_waiting`` and ``max_waiting_steps``, and without a store of ``max_sessions`` and
            ``max_session_bytes``, that one client address may take; 1 where a proxy hides the clients' addresses.
        key_share: where there are keys, the share of all these that one key may take, whatever its address is;
            connections and what they do not read are still those of an address.
        header_timeout_s: time for the headers of a request to arrive: from when the connection is made or the first
            byte arrives.
        body_timeout_s: time for one body to arrive.
        idle_timeout_s: time for which a connection may wait for its next request, or for its client to read.
        max_chunk_steps: network steps of one chunk.
        max_sessions: open sessions; with a store, those in the memory of this process.
        max_session_bytes: memory of this process that all sessions take, with the last replies and the ids of those
            that are gone; a session that would begin or grow without room is refused. With a store, sessions in memory
            make room for each other.
        max_waiting: requests in flight, from when their body is complete until their reply is made.
        max_waiting_steps: network steps of all chunks that wait or are computed; eight spikes count as one step. A
            client with nothing in flight has twice the limit, and a chunk of a thousandth of it is always taken.
        queue_timeout_s: time within which the work for a chunk has to begin; a chunk that waits longer is refused.
    """

    max_body_bytes: int = 16 * 1024 * 1024
    max_upload_bytes: int = 256 * 1024 * 1024
    max_uploads: int = 1_024
    max_unread_bytes: int = 256 * 1024 * 1024
    max_connections: int = 8_192
    client_share: float = 0.5
    key_share: float = 0.5
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    # Longer than balancers keep an idle connection, so that the balancer closes it. A chunk that is sent while the
    # server closes the connection is lost, and a chunk without a number cannot be sent again.
    idle_timeout_s: float = 90.0
    max_chunk_steps: int = 20_000
    max_sessions: int = 10_000
    max_session_bytes: int = 384 * 1024 * 1024
    max_waiting: int = 1_024
    # 50 of the longest chunks: 10 s on two cores in the exact form of the models here, and a fortieth of it as a bank
    max_waiting_steps: int = 1_000_000
    queue_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_upload_bytes < self.max_body_bytes:
            raise ValueError(f"max_upload_bytes: {self.max_upload_bytes} is less than max_body_bytes")
        for share in ("client_share", "key_share"):
            if (value := getattr(self, share)) > 1:
                raise ValueError(f"{share}: {value} is above 1")


@dataclass(frozen=True)
class Retention(_Checked):
    """How long sessions live, and how long the server remembers them afterwards.

    Attributes:
        session_idle_s: time without use after which a session is dropped.
        first_chunk_idle_s: time without use after which a session of one chunk makes room for another, if a server
            without a store is full.
        session_age_s: age at which a session is dropped, however much it is used.
        ended_keep_s: time for which the last reply of an ended session can be requested again.
        expired_keep_s: time for which the server remembers that it dropped a session.
        sweep_interval_s: time between two searches for idle sessions.
    """

    session_idle_s: float = 600.0
    first_chunk_idle_s: float = 60.0
    session_age_s: float = 86_400.0
    ended_keep_s: float = 60.0
    expired_keep_s: float = 3_600.0
    sweep_interval_s: float = 5.0


@dataclass(frozen=True)
class Batching(_Checked):
    """How chunks are computed.

    Attributes:
        engine_threads: batches that are computed at the same time, on one CPU core each.
        max_batch: chunks that are computed together, each of another session.
        inline_s: a batch that is expected to take less time is computed on the event loop, which is quicker than
            handing it to a thread; 0 always hands it to a thread.
    """

    engine_threads: int = 2
    max_batch: int = 64
    inline_s: float = 10e-3


@dataclass(frozen=True)
class StoreSettings(_Checked):
    """The session store.

    Attributes:
        url: of the store, as ``service.store.url`` reads it; ``memory://`` keeps sessions in the process.
        timeout_s: time for one batch of requests to the store, and for waiting behind the batch before; a chunk that
            takes longer gets 503.
    """

    url: str = "memory://"
    timeout_s: float = 2.0


@dataclass(frozen=True)
class GrpcSettings(_Checked):
    """The gRPC port.

    Attributes:
        port: on which the server speaks the Open Inference Protocol; 0 takes a free one, None is none.
        tls_cert: certificate chain in PEM; None speaks without TLS.
        tls_key: its private key.
    """

    port: int | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_port(self.port or 0)
        if (self.tls_cert is None) is not (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")


@dataclass(frozen=True)
class AccessSettings(_Checked):
    """Who may use the server.

    Attributes:
        keys: keys file (``service.keys``); None lets everybody in who reaches the port.
        insecure: an operator has said that others may reach the port without a key.
        tls_cert: certificate chain of the HTTP port in PEM; None speaks without TLS.
        tls_key: its private key.
    """

    keys: Path | None = None
    insecure: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.tls_cert is None) is not (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")


@dataclass(frozen=True)
class Settings(_Checked):
    """Everything that an operator decides.

    Attributes:
        models: folder of artifacts, ``models/NAME/VERSION``.
        default_model: model of requests that name none; None takes the one that the folder's file ``default`` names,
            else the only model of the folder.
        watch_s: interval at which the folder is checked for changes; 0 never checks it.
        load_timeout_s: time for reading, loading and testing one version; one that takes longer is not served.
        max_model_bytes: of a version's files and its states together; a larger one is not served.
        cors_origins: origins (``https://HOST[:PORT]``) whose pages may send requests and open streams; pages of the
            server's own host and port always may.
        host: address on which ``hetsyn serve`` listens.
        port: TCP port, likewise; 0 takes a free one.
        device: where networks run: ``cpu``, ``cuda`` (the first visible NVIDIA GPU; the server
            does not start without one), ``auto`` (a GPU that gives the CPU's answers on the artifacts' golden streams,
            else the CPU).
        forms: of a model that a client may choose: ``any``, or ``default`` for the default form only. The exact form
            takes sixty times the memory of the bank.
        drain_s: time for which a server that got SIGTERM still serves while ``/health/ready`` says 503, so that
            balancers notice; longer than the interval of their checks.
        finish_s: time after that for the requests in flight; those that are not finished then are refused.
        limits: the most that the server accepts.
        retention: how long sessions live.
        batching: how chunks are computed.
        store: where sessions are stored.
        grpc: a second port, for gRPC.
        access: who may use the server.
    """

    models: Path
    default_model: str | None = None
    watch_s: float = 0.0
    load_timeout_s: float = 60.0
    max_model_bytes: int = 2**30
    cors_origins: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    device: DeviceChoice = "auto"
    forms: FormsChoice = "any"
    drain_s: float = 0.0
    finish_s: float = 20.0
    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)
    batching: Batching = field(default_factory=Batching)
    store: StoreSettings = field(default_factory=StoreSettings)
    grpc: GrpcSettings = field(default_factory=GrpcSettings)
    access: AccessSettings = field(default_factory=AccessSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_port(self.port)
        for origin in self.cors_origins:
            if not is_origin(origin):
                raise ValueError(f"cors_origins: {origin!r} is no origin: write such as https://example.org")
        _check_choice("device", self.device, get_args(DeviceChoice))
        _check_choice("forms", self.forms, get_args(FormsChoice))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


USUAL_PORTS = {"http": 80, "https": 443}


def is_origin(text: str) -> bool:
    """Whether a text is the origin of a page as browsers send it: scheme, host, a port that is not the usual one, and
    nothing more.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # such as http://[, or a port above 65535
        return False
    if parts.scheme not in USUAL_PORTS or port == USUAL_PORTS[parts.scheme] or not parts.hostname:
        return False
    has_host_alone = re.fullmatch(r"[\w.\[\]:-]+", parts.netloc, re.ASCII) is not None
    return has_host_alone and text == f"{parts.scheme}://{parts.netloc}"


def _check_port(port: int) -> None:
    if port > 65_535:
        raise ValueError(f"port: {port} is not within 0-65535")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(choices)}")
