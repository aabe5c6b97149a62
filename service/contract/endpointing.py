"""The settings that find utterances in a stream, for manifests, requests and sessions."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LONGEST_ONSET_S, LONGEST_PREROLL_S = 1.0, 1.0  # a session keeps this much of its latest input
SHORTEST_S, LONGEST_S = 0.05, 3_600.0  # of utterances, and of silences that mean something

Seconds = Annotated[float, Field(ge=SHORTEST_S, le=LONGEST_S, allow_inf_nan=False)]
SecondsOrNever = Annotated[float, Field(ge=0, le=LONGEST_S, allow_inf_nan=False)]


class Endpointing(BaseModel):
    """Settings of the endpointer (``service.engine.endpointer``). Rules 1 to 3 are Kaldi's.

    Attributes:
        threshold: input this far above the background is speech: in dB for sound, else in spikes a step.
        release: share of the threshold below which speech is silence again (hysteresis).
        onset_s: speech of this length begins an utterance.
        preroll_s: input before the onset that belongs to the utterance.
        silence_s: rule 2: silence of this length ends an utterance.
        no_speech_s: rule 1: after this time without speech, the answer is that nothing was heard. 0 is never; else at
            least 0.05 s.
        max_s: rule 3: an utterance of this length ends.
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
        """Return both changes as one; ``change`` overrides."""
        return self.model_copy(update=change.model_dump(exclude_none=True))
