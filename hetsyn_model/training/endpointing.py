"""The utterances of a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from hetsyn_model.spec import SpecError


@dataclass(frozen=True)
class EndpointingConfig:
    """Settings by which a server finds utterances in a stream of the model's input.

    Attributes:
        threshold: input this far above the background is speech: in dB for sound, else in spikes a step. 0: the model
            has no settings, and a server finds utterances only if a client asks for it.
        release: share of the threshold below which speech becomes silence.
        onset_s: speech of this length begins an utterance.
        preroll_s: input before the onset that belongs to the utterance.
        silence_s: silence of this length ends an utterance.
        no_speech_s: after this time without speech, the answer is that nothing was heard; 0 is never.
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
