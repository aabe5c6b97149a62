"""Settings of a server: one frozen object, nothing read from the environment."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

DeviceChoice = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Settings:
    """What an operator decides.

    Models:
        models: folder of artifacts, ``models/NAME/VERSION``.
        default_model: model of requests that name none; None takes the one that the folder's file ``default``
            names, else the only model of the folder.
        watch_s: between two looks at the folder for what has changed; 0 looks never.
    Address:
        host, port: where ``hetsyn serve`` listens.
    Limits of one request:
        max_body_bytes: a longer body is refused while it is read.
        max_json_bytes: the same for JSON, which takes many times its length in memory while it is decoded.
        body_timeout_s: a body that takes longer is refused.
        max_upload_bytes: of all bodies under way; a request for whose there is no room is refused. Those of up to
            64 KiB that come in one piece do not count.
        max_chunk_steps: a chunk of more network steps is refused.
    Sessions:
        max_sessions: open sessions; one more is refused.
        session_idle_s: a session that lies idle for longer is dropped.
        ended_keep_s: for how long the last reply of an ended session can be asked for again.
        gone_keep_s: for how long the server remembers that it dropped a session.
        max_remembered: ended sessions, and dropped ones, that are remembered at most (each).
        session_age_s: a session is dropped at this age, however much it is used.
        sweep_interval_s: pause between two searches for idle sessions.
    Store:
        store: URL of where sessions are kept; see ``service.store.url``. ``memory://`` keeps them in the process;
            with another, max_sessions bounds those in memory besides, and max_remembered bounds nothing.
        store_timeout_s: for one batch, and for waiting until the one before is over; chunks that take longer get 503.
        store_half: keep the network's state as float16, in half the room and with its accuracy.
    Work:
        device: where networks run and their states live: ``cpu``, ``cuda`` (the first visible NVIDIA GPU; refuses to
            start where none can be used), ``auto`` (a GPU where one can be used, else the CPU).
        max_waiting: requests that may be in flight, from before their body is read until they are answered;
            one more is refused at once.
        engine_threads: batches that are computed at the same time, on one CPU core each.
        engine_inline_s: a batch that is expected to take less is computed on the event loop, which is quicker than
            handing it to a thread; 0 never does that.
        max_batch: chunks, of as many sessions, that are computed together.
        max_batch_steps: chunks of a batch times the steps of its longest.
        max_batch_wait_s: for how long an idle thread waits for more chunks; 0 starts at once.
        drain_s: for how long a server that was told to end serves on while it is not ready, so that balancers
            notice; above the interval of their checks.
        segment_steps: steps that a graph runs in one call; longer chunks take several, to bound the memory.
    """

    models: Path
    default_model: str | None = None
    watch_s: float = 0.0
    host: str = "127.0.0.1"
    port: int = 8000
    max_body_bytes: int = 16 * 1024 * 1024
    max_json_bytes: int = 4 * 1024 * 1024
    body_timeout_s: float = 30.0
    max_upload_bytes: int = 256 * 1024 * 1024
    max_chunk_steps: int = 20_000
    max_sessions: int = 10_000
    session_idle_s: float = 600.0
    ended_keep_s: float = 60.0
    gone_keep_s: float = 3_600.0
    max_remembered: int = 10_000
    session_age_s: float = 86_400.0
    sweep_interval_s: float = 5.0
    device: DeviceChoice = "auto"
    store: str = "memory://"
    store_timeout_s: float = 2.0
    store_half: bool = False
    max_waiting: int = 1_024
    engine_threads: int = 2
    engine_inline_s: float = 1e-2
    max_batch: int = 64
    max_batch_steps: int = 4_096
    max_batch_wait_s: float = 0.0
    drain_s: float = 0.0
    segment_steps: int = 500

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port: {self.port} is not within 0-65535")
        if self.max_upload_bytes < self.max_body_bytes:
            raise ValueError(f"max_upload_bytes: {self.max_upload_bytes} is less than max_body_bytes")
        if self.device not in get_args(DeviceChoice):
            raise ValueError(f"device: {self.device!r} is none of {', '.join(get_args(DeviceChoice))}")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool):
                continue
            zero_is_legal = field.name in ("port", "watch_s", "max_batch_wait_s", "engine_inline_s", "drain_s")
            if isinstance(value, int | float) and (value < 0 or (value == 0 and not zero_is_legal)):
                raise ValueError(f"{field.name}: {value} is not above 0")
