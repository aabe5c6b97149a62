"""How utterances are found in a stream: the settings, as a manifest, a request and a session have them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LONGEST_ONSET_S, LONGEST_PREROLL_S = 1.0, 1.0  # a session keeps so much of its latest input
SHORTEST_S, LONGEST_S = 0.05, 3_600.0  # of utterances, and of silences that mean something

Seconds = Annotated[float, Field(ge=SHORTEST_S, le=LONGEST_S, allow_inf_nan=False)]
SecondsOrNever = Annotated[float, Field(ge=0, le=LONGEST_S, allow_inf_nan=False)]


class Endpointing(BaseModel):
    """Settings of the endpointer (``service.engine.endpointer``). Rules 1 to 3 are Kaldi's.

    Attributes:
        threshold: rise above the background that is speech: of sound in dB, of other input in spikes a step.
        release: share of it below which speech is silence again (hysteresis).
        onset_s: an utterance begins when speech has lasted so long.
        preroll_s: an utterance takes so much of what came before its onset.
        silence_s: rule 2, and the hang-over: an utterance ends when silence has lasted so long.
        no_speech_s: rule 1: without speech for so long, the answer is that nothing was heard; 0 for never,
            and at least 0.05 s.
        max_s: rule 3: an utterance that is as long ends, whatever comes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    threshold: float = Field(gt=0, le=1e6, allow_inf_nan=False)
    release: float = Field(default=0.5, gt=0, le=1, allow_inf_nan=False)
    onset_s: float = Field(default=0.03, ge=0, le=LONGEST_ONSET_S, allow_inf_nan=False)
    preroll_s: float = Field(default=0.2, ge=0, le=LONGEST_PREROLL_S, allow_inf_nan=False)
    silence_s: Seconds = 0.5
    no_speech_s: SecondsOrNever = 2.4
    max_s: Seconds = 20.0


class EndpointingChange(BaseModel):
    """Settings that a client chooses; the others stay as they are. ``Endpointing`` says what they mean."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    threshold: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    release: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    onset_s: Annotated[float, Field(ge=0, le=LONGEST_ONSET_S, allow_inf_nan=False)] | None = None
    preroll_s: Annotated[float, Field(ge=0, le=LONGEST_PREROLL_S, allow_inf_nan=False)] | None = None
    silence_s: Seconds | None = None
    no_speech_s: SecondsOrNever | None = None
    max_s: Seconds | None = None

    def applied(self, settings: Endpointing) -> Endpointing:
        return settings.model_copy(update=self.model_dump(exclude_none=True))

    def followed_by(self, change: EndpointingChange) -> EndpointingChange:
        """Both changes, the other one last."""
        return self.model_copy(update=change.model_dump(exclude_none=True))
