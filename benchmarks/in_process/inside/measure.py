"""Measures one checkout, as ORDER says; both it and the result are JSON."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import json
import statistics
import sys
import threading
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from .checkout import Checkout, contents_for
from .ways import WAYS, Absent, Alone, Way

WARM_UP_ROUNDS = 60
WALKS = 3  # chunks: what not all of them pass is work that the server does now and then
LEAST_ROUNDS = 20
COUNTED_CHUNKS = 320
ANSWER_TIMEOUT_S = 60.0
COLLECT_AFTER = (20_000, 50, 100)  # thresholds of the garbage collector in ``hetsyn serve``
HERE = str(Path(__file__).parent)


class Tracer:
    """Counts bytecodes and calls of Python, and the functions that are called, in all threads that start after it.

    Frames of this folder do not count.
    """

    def __init__(self) -> None:
        self.is_on = False
        self.calls = itertools.count()
        self.bytecodes: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)  # atomic, other than ``+=``
        self.codes: set[types.CodeType] = set()

    def trace(self, frame: types.FrameType, _: str, __: Any) -> Callable[..., Any] | None:
        if not self.is_on or frame.f_code.co_filename.startswith(HERE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        next(self.calls)
        counter = self.bytecodes[frame.f_code.co_filename]

        def local(_: types.FrameType, event: str, __: Any) -> Any:
            if event == "opcode":
                next(counter)
            return local

        return local

    def profile(self, frame: types.FrameType, event: str, _: Any) -> None:
        if self.is_on and event == "call" and not frame.f_code.co_filename.startswith(HERE):
            self.codes.add(frame.f_code)

    @contextmanager
    def counting(self) -> Iterator[None]:
        self.is_on = True
        sys.settrace(self.trace)
        try:
            yield
        finally:
            sys.settrace(None)
            self.is_on = False

    @contextmanager
    def seeing(self) -> Iterator[None]:
        self.is_on = True
        sys.setprofile(self.profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            self.is_on = False

    def take(self) -> tuple[int, dict[str, int]]:
        """Take the calls, and the bytecodes by file, since the last call."""
        calls, self.calls = next(self.calls), itertools.count()
        counters, self.bytecodes = self.bytecodes, defaultdict(itertools.count)
        return calls, {name: next(counter) for name, counter in counters.items()}


class Meter:
    """Measures the ways of one checkout.

    Args:
        order: as JSON: ``root``, ``models`` and ``recordings`` (folders), ``mode`` (time, count or walk), ``seconds``
            of each cell, ``cells``: model, way and number of sessions of each.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._root = Path(order["root"])
        self._recordings = Path(order["recordings"])
        self._seconds = float(order["seconds"])
        self._mode = order["mode"]
        self._cells = [tuple(cell) for cell in order["cells"]]
        self._tracer = Tracer()
        # threads see these when they start, and cannot get them later
        if self._mode == "count":
            threading.settrace(self._tracer.trace)
        if self._mode == "walk":
            threading.setprofile(self._tracer.profile)
        if self._mode != "time":
            _stop_clocks()
        self._checkout = Checkout(self._root, Path(order["models"]))

    async def measure(self) -> list[dict[str, Any] | None]:
        """Measure each cell; None where the checkout has no such interface."""
        results: list[dict[str, Any] | None] = []
        async with self._checkout.serve() as connect:
            for model, name, at_a_time in self._cells:
                contents = contents_for(model, self._recordings)
                way: Way
                if name == "engine":
                    way = Alone(self._checkout, model, contents, at_a_time)
                else:
                    way = WAYS[name](self._checkout, connect, model, contents, at_a_time)
                try:
                    async with asyncio.timeout(ANSWER_TIMEOUT_S + 10 * self._seconds):
                        results.append(await self._cell(way, at_a_time))
                except Absent:
                    results.append(None)
                finally:
                    way.close()
        return results

    async def _cell(self, way: Way, at_a_time: int) -> dict[str, Any]:
        await way.open()
        numbers = itertools.count()
        for _ in range(WARM_UP_ROUNDS):
            await self._round(way, next(numbers))
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        if self._mode == "walk":
            return await self._walk(way, numbers)
        measure = self._count if self._mode == "count" else self._time
        return await measure(way, numbers, at_a_time)

    async def _round(self, way: Way, number: int) -> float:
        """Run a round, and give the CPU time of all threads in us."""
        prepared = way.prepare(number)
        began_ns = time.process_time_ns()
        await way.run(prepared)
        took_us = (time.process_time_ns() - began_ns) / 1e3
        way.check()
        return took_us

    async def _time(self, way: Way, numbers: Iterator[int], at_a_time: int) -> dict[str, Any]:
        """Measure the CPU time for a chunk."""
        samples: list[float] = []
        end_s = time.perf_counter() + self._seconds
        while len(samples) < LEAST_ROUNDS or time.perf_counter() < end_s:
            samples.append(await self._round(way, next(numbers)) / at_a_time)
        return {
            "p25_us": float(np.quantile(samples, 0.25)),
            "median_us": statistics.median(samples),
            "rounds": len(samples),
        }

    async def _count(self, way: Way, numbers: Iterator[int], at_a_time: int) -> dict[str, Any]:
        """Count bytecodes and calls for a chunk: the median of the rounds, since a batch may be cut in two."""
        rounds: list[tuple[int, dict[str, int]]] = []
        for _ in range(max(5, COUNTED_CHUNKS // at_a_time)):
            prepared = way.prepare(next(numbers))
            with self._tracer.counting():
                await way.run(prepared)
            way.check()
            rounds.append(self._tracer.take())
        totals = [sum(files.values()) / at_a_time for _, files in rounds]
        names = sorted({name for _, files in rounds for name in files})
        by_file = {self._short(name): sum(files.get(name, 0) for _, files in rounds) for name in names}
        return {
            "bytecodes": statistics.median(totals),
            "least_bytecodes": min(totals),
            "most_bytecodes": max(totals),
            "calls": statistics.median(calls / at_a_time for calls, _ in rounds),
            "bytecodes_by_file": {name: total / at_a_time / len(rounds) for name, total in by_file.items()},
        }

    async def _walk(self, way: Way, numbers: Iterator[int]) -> dict[str, Any]:
        """List the checkout's own functions that each chunk passes, with their lengths."""
        passed: list[set[types.CodeType]] = []
        for number in itertools.islice(numbers, WALKS):
            prepared = way.prepare(number)
            with self._tracer.seeing():
                await way.run(prepared)
            way.check()
            passed.append(set(self._tracer.codes))
            self._tracer.codes.clear()
        # Python 3.12 has no frames of comprehensions any more, and generator expressions are no functions either
        own = [
            code
            for code in set.intersection(*passed)
            if self._is_own(code) and not code.co_name.endswith(("comp>", "expr>"))
        ]
        functions = {
            f"{self._short(code.co_filename)}:{code.co_firstlineno} {code.co_qualname}": len(
                inspect.getsourcelines(code)[0]
            )
            for code in own
        }
        if not functions:
            raise RuntimeError(f"nothing of {self._root} was called")
        return {"functions": dict(sorted(functions.items())), "files": len({code.co_filename for code in own})}

    def _is_own(self, code: types.CodeType) -> bool:
        path = Path(code.co_filename)
        return path.is_relative_to(self._root) and "site-packages" not in path.parts

    def _short(self, name: str) -> str:
        """Shorten a file's name: from the checkout's folder, or from that of the libraries."""
        path = Path(name)
        if "site-packages" in path.parts:
            return str(Path(*path.parts[path.parts.index("site-packages") + 1 :]))
        return str(path.relative_to(self._root)) if path.is_relative_to(self._root) else str(Path(*path.parts[-2:]))


def _stop_clocks() -> None:
    """Let each batch seem to take a microsecond: no slow one moves to a thread, which takes other bytecodes."""
    for name in ("perf_counter", "thread_time"):
        setattr(time, name, itertools.count(getattr(time, name)(), 1e-6).__next__)


def main() -> None:
    meter = Meter(json.loads(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(meter.measure())))


if __name__ == "__main__":
    main()
