"""The settings of a server: frozen values, none read from the environment.

A field for operators has an ``Option``; ``hetsyn serve`` makes its options from these.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from hetsyn_client.protocol.patience import LONGEST_REPEAT_S

DeviceChoice = Literal["auto", "cpu", "cuda"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

_MAY_BE_ZERO = ("port", "grpc_port", "watch_s", "drain_s", "finish_s", "inline_s")


@dataclass(frozen=True)
class Option:
    """An option of ``hetsyn serve``.

    Attributes:
        help: one sentence.
        name: the option's name, if it differs from the field's.
        environment: variable with the value if the option is not given.
        is_usual: ``--help`` shows it; ``--help-all`` shows all.
        is_size: the value is bytes, which may be written as 384MiB.
    """

    help: str
    name: str = ""
    low: float | None = None
    high: float | None = None
    environment: str | None = None
    is_usual: bool = False
    is_size: bool = False


def option(default: Any = MISSING, help_: str = "", **more: Any) -> Any:
    """Make a field of settings with an option. Arguments as the attributes of ``Option``."""
    return field(default=default, metadata={"option": Option(help_, **more)})


class _Checked:
    """Refuses numbers below 0, and 0 if it has no meaning."""

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
        max_held_bytes: bytes that the server holds for its clients: requests until their answers, and replies that
            clients do not read, here and in the system's buffers. Requests without room are refused, and connections
            that are not read are closed. Bodies of up to 64 KiB that arrive in one piece do not count.
        max_connections: TCP connections; one more closes the one that has been longest without a complete request.
        client_share: share of ``max_held_bytes``, ``max_waiting`` and ``max_waiting_steps``, of ``max_connections`` for
            WebSockets, and without a store of ``max_sessions`` and ``max_session_bytes``, that one client address may
            take; 1 if a proxy hides the clients' addresses.
        key_share: with keys, the share of all these that one key may take, from any addresses.
        header_timeout_s: time for the headers of a request to arrive, from the connection or the first byte on.
        body_timeout_s: time for one body to arrive.
        idle_timeout_s: time that a connection may wait for its next request, or for its client to read.
        max_chunk_steps: network steps of one chunk.
        max_waiting_steps: network steps of all chunks that wait or are computed; eight spikes count as one step. A
            client with nothing in flight may use twice the limit, and chunks below 0.1% of it are always admitted.
    """

    max_body_bytes: int = option(16 * 1024 * 1024, "The most bytes of a request; a longer one gets 413.", is_size=True)
    max_held_bytes: int = 256 * 1024 * 1024
    max_connections: int = 8_192
    client_share: float = option(
        0.5, "The share of these limits for one client address; 1 behind a proxy.", low=0.001, high=1
    )
    key_share: float = 0.5
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    # Longer than balancers keep an idle connection, so that the balancer closes it. A chunk that is sent while the
    # server closes the connection is lost, and cannot be sent again without a number.
    idle_timeout_s: float = 90.0
    max_chunk_steps: int = 20_000
    max_sessions: int = option(10_000, "The most open sessions; with a store, in memory.", low=1)
    max_session_bytes: int = option(
        384 * 1024 * 1024,
        "The most memory for sessions; one that would begin or grow beyond it gets 503.",
        is_size=True,
    )
    max_waiting: int = option(1_024, "The most requests in flight; one more gets 503.", low=1)
    # 50 of the longest chunks: 10 s on two cores in the exact network of shd-size, and a fortieth of it as a bank
    max_waiting_steps: int = 1_000_000
    queue_timeout_s: float = option(
        10.0, "Seconds in which the work for a chunk has to begin; after them, the chunk gets 503.", low=0.1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_held_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_body_bytes: {self.max_body_bytes} is above {self.max_held_bytes}, the most of all requests"
            )
        for share in ("client_share", "key_share"):
            if (value := getattr(self, share)) > 1:
                raise ValueError(f"{share}: {value} is above 1")


@dataclass(frozen=True)
class Retention(_Checked):
    """How long sessions live, and how long their last replies are kept.

    Attributes:
        first_chunk_idle_s: idle time after which a session of one chunk makes room for another, if a server without a
            store is full.
        ended_keep_s: time that the last reply of an ended session can be requested again: as long as our client may.
        sweep_interval_s: time between two searches for idle sessions.
    """

    session_idle_s: float = option(
        600.0, "Seconds without a chunk after which a session expires.", low=1, is_usual=True
    )
    first_chunk_idle_s: float = 60.0
    session_age_s: float = option(86_400.0, "Seconds after its beginning at which a session expires.", low=1)
    ended_keep_s: float = LONGEST_REPEAT_S
    sweep_interval_s: float = 5.0


@dataclass(frozen=True)
class Batching(_Checked):
    """The computation of chunks.

    Attributes:
        engine_threads: batches that are computed at the same time, on one CPU core each.
        max_batch: chunks that are computed together, each of another session.
        inline_s: a batch with a shorter estimate is computed on the event loop, which is quicker than a thread; 0
            always uses a thread.
    """

    engine_threads: int = 2
    max_batch: int = 64
    inline_s: float = 10e-3


@dataclass(frozen=True)
class StoreSettings(_Checked):
    """The session store."""

    url: str = option(
        "memory://",
        "Session store: memory:// (for one process), file:///path/sessions.db, valkey://host, or "
        "valkey-cluster://a,b/.",
        name="store",
        environment="HETSYN_STORE",
        is_usual=True,
    )
    timeout_s: float = option(
        2.0, "Seconds for a batch of store requests; after them, chunks get 503.", name="store-timeout-s", low=0.01
    )
    carry_keys: Path | None = option(
        None,
        "File of keys for carried sessions. Without this file, HETSYN_CARRY_KEYS in the environment gives the "
        "keys; without keys, carried sessions are refused.",
    )


@dataclass(frozen=True)
class AccessSettings(_Checked):
    """Who may use the server."""

    keys: Path | None = option(
        None,
        "File of keys, as hetsyn keys writes it; clients then need a key. It is read again when it changes.",
        environment="HETSYN_KEYS",
        is_usual=True,
    )
    insecure: bool = option(False, "Serve others than this machine although there are no keys.", is_usual=True)
    tls_cert: Path | None = option(
        None, "Certificate chain of all ports, in PEM; read again when it changes. Default: no TLS.", is_usual=True
    )
    tls_key: Path | None = option(None, "Private key of that certificate, in PEM.", is_usual=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.tls_cert is None) is not (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together: give both")

    @property
    def certificate(self) -> tuple[Path, Path] | None:
        """Return the files of the certificate chain and its private key; None without TLS."""
        return None if self.tls_cert is None or self.tls_key is None else (self.tls_cert, self.tls_key)


@dataclass(frozen=True)
class Settings(_Checked):
    """Everything that an operator decides.

    Attributes:
        device: runs the networks: ``cpu``, ``cuda`` (the first visible NVIDIA GPU; the server does not start without
            one), ``auto`` (a GPU that gives the CPU's answers on the artifacts' golden streams, else the CPU).
        watch_s: time between two checks of the folder of models for changes; 0 never checks it.
        load_timeout_s: time for reading, loading and testing one version; slower ones are not served.
        max_model_bytes: a version's files and one stream's state together; larger ones are not served.
    """

    models: Path = option(
        help_="Folder of models, NAME/VERSION/. Default: models if it has any, else the installed one.", is_usual=True
    )
    watch_s: float = 2.0
    load_timeout_s: float = 60.0
    max_model_bytes: int = 2**30
    cors_origins: tuple[str, ...] = option(
        (),
        "Origin whose pages may use this server, as https://example.org; can be repeated.",
        name="cors-origin",
    )
    host: str = option("127.0.0.1", "Address to listen on; 0.0.0.0 listens on all.", is_usual=True)
    port: int = option(8000, "Port to listen on; 0 takes a free one.", low=0, high=65_535, is_usual=True)
    grpc_port: int | None = option(
        None,
        "Port for the Open Inference Protocol over gRPC; 0 takes a free one.",
        low=0,
        high=65_535,
        is_usual=True,
    )
    device: DeviceChoice = option(
        "auto", "Where networks run; auto is a GPU if it gives the CPU's answers, else the CPU."
    )
    drain_s: float = option(0.0, "Seconds to serve after SIGTERM, while /health/ready says 503.", low=0)
    finish_s: float = option(20.0, "Seconds after --drain-s to finish requests in flight; then they get 503.", low=0)
    log_level: LogLevel = option("info", "Log messages of this level and above.")
    log_format: LogFormat = option("text", "Lines of text, or an object of JSON each.", environment="HETSYN_LOG_FORMAT")
    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)
    batching: Batching = field(default_factory=Batching)
    store: StoreSettings = field(default_factory=StoreSettings)
    access: AccessSettings = field(default_factory=AccessSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_port(self.port)
        _check_port(self.grpc_port or 0)
        for origin in self.cors_origins:
            if not is_origin(origin):
                raise ValueError(f"cors_origins: {origin!r} is no origin: write such as https://example.org")
        _check_choice("device", self.device, get_args(DeviceChoice))


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


USUAL_PORTS = {"http": 80, "https": 443}


def is_origin(text: str) -> bool:
    """Return whether a text is a page's origin as browsers send it: scheme, host, an unusual port, and nothing more."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # http://[ raises it, and a port above 65535
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
