"""Streams a source to what answers, and hands on the answers as they come."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hetsyn_client.errors import InputError
from hetsyn_client.terminal.backend import Answers, Backend, Frame
from hetsyn_client.terminal.source import Source

PATIENCE_S = 0.02  # in which an answer may come before there is another look at the source

Hear = Callable[[Frame], None]


class Stop:
    """Whether the user has pressed Ctrl-C."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self) -> bool:
        return self.is_set


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Ctrl-C ends the input, and what came before is still answered. Pressed again, it ends the program."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupted(number: int, frame: Any) -> None:
        if stop.is_set:
            signal.default_int_handler(number, frame)
        stop.is_set = True

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def listen(
    backend: Backend,
    source: Source,
    hear: Hear,
    stop: Stop,
    *,
    endpointing: bool,
    spikes: bool = False,
    realtime: bool = False,
) -> None:
    """Stream a source up to its end, or until the user has had enough. ``hear`` gets ``Begin`` and then each frame.

    Args:
        endpointing: whether utterances are found in it.
        spikes: whether the results should have the spikes of each layer.
        realtime: send a file no faster than it lasts.

    Raises:
        InputError: nothing came.
        HetsynError: the backend fails.
    """
    is_empty, began_s = True, time.monotonic()
    with backend.open(source, endpointing=endpointing, spikes=spikes) as answers:
        hear(answers.begin)
        for piece in source.pieces:
            if stop():
                break
            if piece is None:
                _hear_all(answers, hear)
                continue
            if realtime and piece.until_s is not None:
                _wait_until(began_s + piece.until_s, answers, hear, stop)
            is_empty = False
            for frame in answers.send(piece.content):
                hear(frame)
        if is_empty:
            raise InputError(f"{source.name}: nothing came: send sound, spikes or values")
        for frame in answers.end():
            hear(frame)


def _hear_all(answers: Answers, hear: Hear) -> None:
    """Hand on what comes, while something is to come."""
    if answers.waits:
        for frame in answers.receive(PATIENCE_S):
            hear(frame)


def _wait_until(time_s: float, answers: Answers, hear: Hear, stop: Stop) -> None:
    """Hear until then."""
    while (left_s := time_s - time.monotonic()) > 0 and not stop():
        if answers.waits:
            for frame in answers.receive(min(left_s, PATIENCE_S)):
                hear(frame)
        else:
            time.sleep(min(left_s, PATIENCE_S))
