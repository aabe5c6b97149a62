"""Does a network gain from five takes a word of the one person who will use it? A study on speakers left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hetsyn_model.network import Network
from hetsyn_model.rollout import layer_rollout
from hetsyn_model.training.tied_layer import level_changes
from recipes.speech.pool import Clip
from recipes.speech.training import (
    TAIL_STEPS,
    Front,
    encoded,
    encoder_spec,
    load_model,
    probabilities,
    recipe_of,
    variation,
    weights,
)
from recipes.speech.vocabulary import DIGITS

TAKES: Final = 5
VARIANTS: Final = 8  # of each take, varied as in training


@dataclass(frozen=True)
class Adaptation:
    """How the readout learns a person.

    Attributes:
        updates: of the optimiser, each on all takes.
        learning_rate: of Adam.
        towards: weight of the squared distance from the weights as they were.
    """

    updates: int = 60
    learning_rate: float = 3e-3
    towards: float = 1.0


def study(folder: Path, clips: Sequence[Clip], how: Adaptation, seed: int = 0) -> tuple[float, float]:
    """Return the accuracy before and after, on the takes of a left-out speaker that were not learned from.

    Args:
        folder: of the run without the speaker.
        clips: recordings of that speaker, some of which are learned.
        how: the readout learns.
        seed: of the takes and of their variation.
    """
    model, words = load_model(folder), recipe_of(folder).vocabulary
    assert isinstance(model, Network)
    rng = np.random.default_rng(seed)
    takes = {word: [one for one in clips if one.word == word] for word in DIGITS}
    chosen = {word: set(rng.permutation(len(of))[:TAKES].tolist()) for word, of in takes.items()}
    learned = [one for word, of in takes.items() for n, one in enumerate(of) if n in chosen[word]]
    judged = [one for word, of in takes.items() for n, one in enumerate(of) if n not in chosen[word]]
    before = _accuracy(model, judged, len(words.classes))
    adapt(model, learned, len(words.classes), torch.tensor(words.class_of_word), how, rng)
    return before, _accuracy(model, judged, len(words.classes))


def adapt(
    model: Network,
    takes: Sequence[Clip],
    classes: int,
    class_of_word: Tensor,
    how: Adaptation,
    rng: np.random.Generator,
) -> None:
    """Let the readout's weights learn the takes; all else stays, so its inputs are made once."""
    front = Front(encoder_spec(), variation(old=False))
    readout = model.named_layers()["readout"]
    compiled = model.compile("bank")
    streams: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.no_grad():
        varied = [front.vary(takes, TAIL_STEPS, rng) for _ in range(VARIANTS)]
        tied = [replace(batch, events=level_changes(batch.events, encoder_spec())) for batch in varied]
        for batch in [*encoded(front, takes), *tied]:
            x: Tensor = torch.empty(0)
            events = batch.events
            for index, layer in enumerate(compiled.layers[:-1]):
                x, _ = layer_rollout(model.spec, layer, layer.bank.input_drive(events if index == 0 else x))
            streams.append((x, batch.steps, class_of_word[batch.target]))
    weight = readout.get_parameter("w_in")
    start = weight.detach().clone()
    optimiser = torch.optim.Adam([weight], lr=how.learning_rate)
    for _ in range(how.updates):
        optimiser.zero_grad()
        loss = how.towards * (weight - start).square().mean() / start.square().mean()
        for x, steps, target in streams:
            layer = model.compile("bank").layers[-1]
            _, potential = layer_rollout(model.spec, layer, layer.bank.input_drive(x))
            logits = potential[..., :classes]
            late = weights(steps, logits.shape[1], 3).to(logits.dtype)
            each = cross_entropy(
                logits.flatten(0, 1), target.repeat_interleave(logits.shape[1]), reduction="none", label_smoothing=0.05
            )
            loss = loss + (each.view_as(late) * late).sum(1).mean() / len(streams)
        loss.backward()
        optimiser.step()


@torch.no_grad()
def _accuracy(model: Network, clips: Sequence[Clip], classes: int) -> float:
    """The share of recordings of which the best digit is right."""
    model.eval()
    front = Front(encoder_spec(), variation(old=False))
    right = 0
    for batch in encoded(front, clips):
        logits = model.rollout(batch.events, "bank", batch.steps).readout[..., :classes]
        best = probabilities(logits, batch.steps, 3)[:, : len(DIGITS)].argmax(-1)
        right += int((best == batch.target).sum())  # a digit's fine word has the number of its class
    return right / len(clips)
