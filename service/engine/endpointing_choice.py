"""Decides whether a stream has utterances, and by which settings: the manifest's, the client's, or none."""

from __future__ import annotations

from service.contract.endpointing import Endpointing, EndpointingChange
from service.engine.endpointer import Hearing
from service.engine.work import InputKind, StreamState, Utterances, kind_of
from service.errors import InputError, UnsupportedInput
from service.models.model import Model
from service.wire.chunk import Chunk

SOUND_THRESHOLD_DB, OTHER_THRESHOLD = 6.0, 1.0  # without settings in the manifest


def has_own_endpointing(model: Model, chunk: Chunk) -> bool:
    """Return whether the manifest has settings for utterances in this kind of input."""
    return model.manifest.endpointing is not None and kind_of(model, chunk) == _own_kind(model)


def _own_kind(model: Model) -> InputKind:
    """Return the kind of input that the manifest's settings are for."""
    encoder = model.manifest.encoder
    return "spikes" if encoder is None else encoder.kind


def _settings(model: Model, change: EndpointingChange | None, kind: InputKind) -> Endpointing:
    threshold = SOUND_THRESHOLD_DB if kind == "audio" else OTHER_THRESHOLD
    settings = model.manifest.endpointing or Endpointing(threshold=threshold)
    if kind != _own_kind(model):
        settings = settings.model_copy(update={"threshold": threshold})
    return settings if change is None else change.applied(settings)


def with_endpointing(
    model: Model, stream: StreamState, chunk: Chunk | None, choice: str | EndpointingChange | None
) -> StreamState:
    """Apply a chunk's choice of endpointing to a stream.

    Args:
        choice: ``on``, ``off``, or settings; None changes nothing.

    Raises:
        InputError: the stream began with another choice.
        UnsupportedInput: the model has no utterances.
    """
    utterances = stream.utterances
    if choice is None or (choice == "on" and utterances is not None and utterances.settings is not None):
        return stream
    is_on = utterances is not None and utterances.settings is not None
    if choice == "off":
        if is_on:
            raise InputError("the session began with endpointing: leave it on, or begin another session")
        return stream
    change = choice if isinstance(choice, EndpointingChange) else None
    if utterances is not None and utterances.settings is not None:
        settings = utterances.settings if change is None else change.applied(utterances.settings)
        return stream._replace(utterances=utterances._replace(settings=settings))
    if stream.kind is not None:
        raise InputError("the session began without endpointing: leave it off, or begin another session")
    if chunk is None:
        return stream  # a stream does not begin without input
    kind = kind_of(model, chunk)
    check_has_utterances(model, kind)
    return stream._replace(utterances=Utterances(_settings(model, change, kind), Hearing(), 0, 0, 0, None, ()))


def check_has_utterances(model: Model, kind: InputKind) -> None:
    """Raise UnsupportedInput if a model has no utterances, or the endpointer cannot hear its input."""
    if model.manifest.decision.rule == "trace":
        raise UnsupportedInput(f"model {model.name!r} draws a trace, which has no utterances: leave endpointing off")
    if kind == "values" and model.takes_values_only:
        raise UnsupportedInput(
            f"model {model.name!r} takes {kind} without an encoder, so no activity can be heard in them: leave "
            "endpointing off, and end each utterance yourself"
        )


def with_manual_ends(model: Model, stream: StreamState) -> StreamState:
    """Return a stream with utterances that the client ends. A stream without becomes its own first utterance.

    Raises:
        UnsupportedInput: the model has no utterances.
    """
    if stream.utterances is not None:
        return stream
    if model.manifest.decision.rule == "trace":
        raise UnsupportedInput(f"model {model.name!r} draws a trace, which has no utterances: use CloseStream")
    position = stream.step if stream.resampler is None else stream.resampler.received
    return stream._replace(utterances=Utterances(None, Hearing(), 0, 0, position, None, ()))
