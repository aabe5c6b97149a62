"""Streams a source to a backend, and passes the answers on as they come."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from hetsyn_client.errors import InputError
from hetsyn_client.terminal.backend import Backend, Frame
from hetsyn_client.terminal.source import Source

PATIENCE_S = 0.02  # wait for an answer before the next look at the source

Hear = Callable[[Frame], None]
Stop = Callable[[], bool]
"""Whether the user has pressed Ctrl-C."""


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Let Ctrl-C end the input, so that earlier input is still answered. Pressed again, it ends the program."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupted(number: int, frame: Any) -> None:
        if stop.is_set():
            signal.default_int_handler(number, frame)
        stop.set()

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield stop.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def listen(backend: Backend, source: Source, hear: Hear, stop: Stop, *, endpointing: bool) -> None:
    """Stream a source up to its end or ``stop``. ``hear`` gets ``Begin``, and then each frame.

    Args:
        endpointing: find utterances in it.

    Raises:
        InputError: nothing came.
        HetsynError: the backend fails.
    """
    is_empty = True
    ended: set[int] = set()  # numbers of the utterances with an end that was passed on

    def tell(frames: Iterable[Frame]) -> None:
        for frame in frames:
            if frame["type"] == "UtteranceEnd":
                ended.add(frame["utterance"])
            hear(frame)

    with backend.open(source, endpointing=endpointing) as answers:
        hear(answers.begin)
        for piece in source.pieces:
            if stop():
                break
            if piece is None:
                if answers.waits:
                    tell(answers.receive(PATIENCE_S))
                continue
            is_empty = False
            tell(answers.send_bytes(piece))
        if is_empty:
            raise InputError(f"{source.name}: nothing came: send sound, spikes or values")
        tell(answers.wait())
        last = answers.end()
        tell(answers.wait())
        if last and last["utterance"] not in ended:
            hear(last)
