"""Streams a source to what answers, and hands on the answers as they come."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from hetsyn_client.errors import InputError
from hetsyn_client.terminal.backend import Backend, Frame
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
    """Let Ctrl-C end the input, and what came before be answered. Pressed again, it ends the program."""
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
    """Stream a source up to its end or ``stop``. ``hear`` gets ``Begin``, and then each frame.

    Args:
        endpointing: whether utterances are found in it.
        spikes: whether the results should have the spikes of each layer.
        realtime: send a file no faster than it lasts.

    Raises:
        InputError: nothing came.
        HetsynError: the backend fails.
    """
    is_empty, began_s = True, time.monotonic()
    ended: set[int] = set()  # numbers of the utterances whose end was handed on

    def tell(frames: Iterable[Frame]) -> None:
        for frame in frames:
            if frame["type"] == "UtteranceEnd":
                ended.add(frame["utterance"])
            hear(frame)

    def tell_for(patience_s: float) -> None:
        if answers.waits:
            tell(answers.receive(patience_s))
        else:
            time.sleep(patience_s)

    with backend.open(source, endpointing=endpointing, spikes=spikes) as answers:
        hear(answers.begin)
        for piece in source.pieces:
            if stop():
                break
            if piece is None:
                if answers.waits:
                    tell_for(PATIENCE_S)
                continue
            if realtime and piece.until_s is not None:
                while (left_s := began_s + piece.until_s - time.monotonic()) > 0 and not stop():
                    tell_for(min(left_s, PATIENCE_S))
            is_empty = False
            tell(answers.send_bytes(piece.content))
        if is_empty:
            raise InputError(f"{source.name}: nothing came: send sound, spikes or values")
        tell(answers.wait())
        last = answers.end()
        tell(answers.wait())
        if last and last["utterance"] not in ended:
            hear(last)
