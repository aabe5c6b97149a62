"""A module like ``sounddevice``, whose microphone hears samples of a test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray


class FakeSounddevice:
    """Stands for the module; put it into ``sys.modules``.

    Args:
        samples: int16 [n], which every stream hears; then the microphone is unplugged.
        rate_hz: of the samples.
        speed: times real time; None for at once.
        overflow: whether the system says that it has lost samples.
    """

    class PortAudioError(Exception):
        """As the module's."""

    def __init__(
        self, samples: NDArray[np.int16], rate_hz: int, speed: float | None = None, *, overflow: bool = False
    ) -> None:
        self._samples, self._rate_hz, self._speed = samples, rate_hz, speed
        self._status = SimpleNamespace(input_overflow=overflow)

    def query_devices(self, device: int | str | None, kind: str) -> dict[str, Any]:
        if device == "none":
            raise ValueError(f"No {kind} device matching 'none'")
        return {"default_samplerate": float(self._rate_hz)}

    def RawInputStream(
        self,
        *,
        samplerate: int,
        blocksize: int,
        device: int | str | None,
        channels: int,
        dtype: str,
        callback: Callable[[bytes, int, Any, Any], None],
        finished_callback: Callable[[], None],
    ) -> _Stream:
        if device == "busy":
            raise self.PortAudioError("Device unavailable [PaErrorCode -9985]")
        assert (samplerate, channels, dtype) == (self._rate_hz, 1, "int16")
        blocks = [
            self._samples[begin : begin + blocksize].tobytes() for begin in range(0, len(self._samples), blocksize)
        ]
        pause_s = 0.0 if self._speed is None else blocksize / samplerate / self._speed
        return _Stream(blocks, pause_s, lambda block: callback(block, blocksize, None, self._status), finished_callback)


class _Stream:
    """Hears blocks in a thread of its own, as PortAudio does."""

    def __init__(
        self, blocks: list[bytes], pause_s: float, hear: Callable[[bytes], None], finished: Callable[[], None]
    ) -> None:
        self._blocks, self._pause_s, self._hear, self._finished = blocks, pause_s, hear, finished
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        for block in self._blocks:
            if self._closed.wait(self._pause_s):
                break
            self._hear(block)
        self._finished()
