"""A microphone as a source of chunks. It needs sounddevice (the extra ``mic``) and PortAudio."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any

import numpy as np

from hetsyn_client.bodies import sound_body
from hetsyn_client.errors import InputError
from hetsyn_client.extras import install_command
from hetsyn_client.sources.chunks import Chunk


class Microphone:
    """The sound of a microphone, from ``with`` on, at the microphone's own rate: the server resamples it.

    Iterate over it with ``for`` or ``async for``. Chunks are queued, so that none is lost while a server restarts. The
    iteration ends after ``stop``, when the microphone is unplugged, or with the ``with`` block.

    Args:
        chunk_s: length of a chunk.
        sample_rate_hz: by default that of the microphone.
        device: number or name of the microphone, as ``python -m sounddevice`` lists them; by default the system's.

    Attributes:
        sample_rate_hz: sample rate, once it is open.
        overflows: how often the system has lost samples because this computer was too busy.
    """

    def __init__(
        self, chunk_s: float = 0.1, *, sample_rate_hz: int | None = None, device: int | str | None = None
    ) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.overflows = 0
        self._chunk_s = chunk_s
        self._device = device
        self._recorded: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()  # None: the end
        self._announce: Callable[[], object] | None = None
        self._samples = 0
        self._stream: Any = None

    def __enter__(self) -> Microphone:
        try:
            import sounddevice  # an extra
        except ImportError as error:
            raise InputError(f"a microphone needs sounddevice: {install_command('mic')}") from error
        except OSError as error:
            raise InputError(f"a microphone needs PortAudio ({error}): apt-get install libportaudio2") from error
        try:
            if self.sample_rate_hz is None:
                described = sounddevice.query_devices(self._device, "input")
                self.sample_rate_hz = round(described["default_samplerate"])
            self._stream = sounddevice.RawInputStream(
                samplerate=self.sample_rate_hz,
                blocksize=max(1, round(self._chunk_s * self.sample_rate_hz)),
                device=self._device,
                channels=1,
                dtype="int16",
                callback=self._hear,
                finished_callback=self.stop,  # it was unplugged
            )
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            raise InputError(
                f"the microphone cannot be used ({error}): choose one that python -m sounddevice lists, with device="
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self.stop()

    def stop(self) -> None:
        """End the iteration after the chunks that were recorded. Any thread may call it."""
        self._put(None)

    def __iter__(self) -> Iterator[Chunk]:
        self._check_open()
        while (content := self._recorded.get()) is not None:
            yield self._chunk(content)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        self._check_open()
        recorded = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._announce = lambda: loop.call_soon_threadsafe(recorded.set)
        try:
            while True:
                recorded.clear()
                try:
                    content = self._recorded.get_nowait()
                except queue.Empty:
                    await recorded.wait()
                    continue
                if content is None:
                    return
                yield self._chunk(content)
        finally:
            self._announce = None

    def _check_open(self) -> None:
        if self._stream is None:
            raise InputError("the microphone is not open: write 'with Microphone() as microphone' around the loop")

    def _chunk(self, content: bytes) -> Chunk:
        assert self.sample_rate_hz is not None
        samples = np.frombuffer(content, np.int16)
        self._samples += len(samples)
        return Chunk(sound_body(samples, self.sample_rate_hz), self._samples / self.sample_rate_hz)

    def _hear(self, content: Any, frames: int, time: Any, status: Any) -> None:  # noqa: ARG002 - sounddevice calls it
        """Queue recorded samples; called on a thread of PortAudio."""
        self.overflows += bool(status.input_overflow)
        self._put(bytes(content))

    def _put(self, content: bytes | None) -> None:
        self._recorded.put(content)
        announce = self._announce
        if announce is not None:
            announce()
