"""Stream a recording of a watch, and say which exercise it is while it goes on: ``python -m examples.motion``.

It needs a server with the model ``motion`` (``hetsyn serve`` in this folder). Each line has the time in the recording,
the exercise of the last three seconds, and the exercise of everything so far.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hetsyn_client import HetsynError, StreamingClient

RECORDING = Path(__file__).resolve().parent / "recordings/abduction.csv"
WINDOW_S = 3.0


class Moment(NamedTuple):
    """The exercise at a time of the recording.

    Attributes:
        recent: exercise of the last three seconds; None at the beginning, before a step has counted.
        so_far: exercise of everything so far.
        share: probability of ``so_far``.
    """

    at_s: float
    recent: str | None
    so_far: str
    share: float


def recognise(
    client: StreamingClient,
    values: NDArray[np.float64],
    *,
    model: str = "motion",
    chunk_s: float = 0.5,
    speed: float = 0.0,
) -> Iterator[Moment]:
    """Stream values as a watch would, and yield what the server says of them.

    The server's probabilities are means over all steps that count, so their sum over a window is the difference of two
    such sums: a window needs no session of its own.

    Args:
        values: [steps, channels].
        speed: times the speed of the recording; 0 for as fast as it goes.
    """
    described = client.describe(model)
    step_s, labels = described["input"]["step_s"], described["labels"]
    skip, chunk, window = described["decision"]["skip_steps"], round(chunk_s / step_s), round(WINDOW_S / step_s)
    sums = {0: np.zeros(len(labels))}  # of the probabilities, by the number of steps
    began_s = time.monotonic()
    with client.session(model=model) as session:
        for start in range(0, len(values), chunk):
            end = min(start + chunk, len(values))
            if speed:
                time.sleep(max(0.0, began_s + end * step_s / speed - time.monotonic()))
            reply = session.send_values(values[start:end], end=end == len(values))
            mean = np.asarray(reply["probabilities"])
            sums[end] = mean * max(0, end - skip)
            before = max(steps for steps in sums if steps <= max(0, end - window))
            evidence = sums[end] - sums[before]
            recent = labels[int(evidence.argmax())] if end > skip else None
            yield Moment(end * step_s, recent, labels[int(mean.argmax())], float(mean.max()))


def main() -> None:
    """Stream, and print a line for each change."""
    parser = argparse.ArgumentParser(prog="python -m examples.motion", description=main.__doc__)
    parser.add_argument("recording", nargs="?", type=Path, default=RECORDING, help="CSV; default: %(default)s")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server's URL (default: %(default)s)")
    parser.add_argument("--speed", type=float, default=10.0, help="times the watch's; 0: no waiting (default: 10)")
    chosen = parser.parse_args()
    try:
        values = np.loadtxt(chosen.recording, delimiter=",", skiprows=1)
        with StreamingClient(chosen.url) as client:
            for moment in recognise(client, values, speed=chosen.speed):
                print(
                    f"{moment.at_s:6.1f} s   now: {moment.recent or '-':20}   "
                    f"so far: {moment.so_far} ({moment.share:.0%})",
                    flush=True,
                )
    except (OSError, ValueError, HetsynError) as error:
        raise SystemExit(f"examples.motion: {error}") from error


if __name__ == "__main__":
    main()
