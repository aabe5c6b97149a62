"""What a stream answered, kept for a picture of its last minute."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.terminal.backend import Frame

LONGEST_S = 60.0


class Answer(NamedTuple):
    """The answer to a chunk, or the last one to an utterance.

    Attributes:
        start_s: of the chunk in the input; the end of the utterance.
        end_s: likewise.
        utterance: that the chunk belongs to.
        values: probabilities [outputs], or readouts [steps, outputs]; None while nothing is heard.
    """

    start_s: float
    end_s: float
    utterance: int
    values: NDArray[np.float64] | None


class Utterance(NamedTuple):
    """An utterance, in seconds of the input."""

    start_s: float
    end_s: float
    label: str | None


class Layer(NamedTuple):
    """The spikes of a layer.

    Attributes:
        name: of the layer.
        size: neurons, or channels of the input.
        times_s: [spikes], in seconds of the input.
        units: [spikes].
    """

    name: str
    size: int
    times_s: NDArray[np.float64]
    units: NDArray[np.int64]


class Recorded:
    """Hears the frames of a stream.

    Attributes:
        begin: the first frame.
        answers: to the chunks.
        utterances: that were heard in them.
    """

    def __init__(self) -> None:
        self.begin: Frame = {}
        self.answers: deque[Answer] = deque()
        self.utterances: deque[Utterance] = deque()
        self._spikes: deque[tuple[float, Frame]] = deque()  # of each chunk, with the end of the chunk

    def __call__(self, frame: Frame) -> None:
        if frame["type"] == "Begin":
            self.begin = frame
        elif frame["type"] == "Result":
            self._answer(frame, frame["start"], frame["start"] + frame["duration"])
        elif frame["type"] == "UtteranceEnd":
            self.utterances.append(Utterance(frame["start"], frame["end"], frame["label"]))
            self._answer(frame, frame["end"], frame["end"])  # with the silence that ends it

    @property
    def span_s(self) -> tuple[float, float]:
        """The first and the last moment that are kept."""
        end_s = self.answers[-1].end_s if self.answers else 0.0
        return (self.answers[0].start_s if self.answers else 0.0, end_s)

    @property
    def is_trace(self) -> bool:
        """Whether the answers are readouts and not probabilities."""
        return any(answer.values is not None and answer.values.ndim == 2 for answer in self.answers)

    def layers(self) -> list[Layer]:
        """Join the spikes of each layer, the input first; empty where none came."""
        step_s = self.begin["step_ms"] / 1000
        found: dict[str, tuple[int, list[NDArray[np.float64]], list[NDArray[np.int64]]]] = {}
        for _, spikes in self._spikes:
            for layer in spikes["layers"]:
                _, times, units = found.setdefault(layer["name"], (layer["size"], [], []))
                times.append((np.asarray(layer["times"], np.float64) + spikes["first_step"]) * step_s)
                units.append(np.asarray(layer["units"], np.int64))
        return [
            Layer(name, size, np.concatenate(times), np.concatenate(units))
            for name, (size, times, units) in found.items()
        ]

    def _answer(self, frame: Frame, start_s: float, end_s: float) -> None:
        told = frame.get("readout") or frame["probabilities"]
        values = None if told is None else np.asarray(told, np.float64)
        self.answers.append(Answer(start_s, end_s, frame["utterance"], values))
        if frame.get("spikes"):
            self._spikes.append((end_s, frame["spikes"]))
        first_s = end_s - LONGEST_S
        while self.answers[0].end_s < first_s:
            self.answers.popleft()
        while self._spikes and self._spikes[0][0] < first_s:
            self._spikes.popleft()
        while self.utterances and self.utterances[0].end_s < first_s:
            self.utterances.popleft()
