"""The utterances of a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from hetsyn_model.spec import SpecError


@dataclass(frozen=True)
class EndpointingConfig:
    """How a server finds utterances in a stream of the model's input.

    Attributes:
        threshold: rise above the background that is speech: of sound in dB, of other input in spikes a step; 0: nothing
            is said of it, so that a server finds utterances only where a client asks for it.
        release: share of it below which speech is silence again.
        onset_s: an utterance begins when speech has lasted so long.
        preroll_s: an utterance takes so much of what came before.
        silence_s: an utterance ends when silence has lasted so long.
        no_speech_s: without speech for so long, the answer is that nothing was heard; 0 for never.
        max_s: the longest utterance.
    """

    threshold: float = 0.0
    release: float = 0.5
    onset_s: float = 0.03
    preroll_s: float = 0.2
    silence_s: float = 0.5
    no_speech_s: float = 2.4
    max_s: float = 20.0

    def __post_init__(self) -> None:
        for name in ("threshold", "onset_s", "preroll_s", "no_speech_s"):
            if getattr(self, name) < 0:
                raise SpecError(f"{name}: {getattr(self, name)} is below 0")
        for name in ("silence_s", "max_s"):
            if getattr(self, name) < 0.05:
                raise SpecError(f"{name}: {getattr(self, name)} is below 0.05")
        if not 0 < self.release <= 1:
            raise SpecError(f"release: {self.release} is not above 0 and at most 1")
        if max(self.onset_s, self.preroll_s) > 1:
            raise SpecError(f"onset_s, preroll_s: {self.onset_s}, {self.preroll_s} are not at most 1")
