"""Does a network gain from five takes a word of the one person who will use it?

The rule, written before any run was judged: ``hetsyn adapt`` is shipped if the readout, fine-tuned on five takes of
each digit, is right in 3 points more of the other takes of speakers of FSDD whom no training heard. The gain of a
speaker is a mean over five random draws of takes, and 3 points are asked of the mean over the speakers. The settings
for a speaker are those that are best in the mean of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from hetsyn_model.network import Network
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.tied_layer import level_changes
from recipes.speech.judge import REFUSED
from recipes.speech.people import Division
from recipes.speech.pool import Clip, of_people, of_wavs
from recipes.speech.report import over_seeds, table
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
from recipes.speech.vocabulary import DIGITS, percent

TAKES: Final = 5
DRAWS: Final = 5
VARIANTS: Final = 4  # of each take, varied as in training


class Setting(NamedTuple):
    """How the readout learns a person.

    Attributes:
        updates: of Adam, each on all takes.
        learning_rate: of Adam.
        towards: weight of the squared distance from the weights as they were, a share of their square.
    """

    updates: int
    learning_rate: float
    towards: float


SETTINGS: Final = tuple(Setting(60, rate, towards) for rate in (1e-3, 3e-3) for towards in (0.3, 3.0))


@dataclass(frozen=True)
class Arrived:
    """What the readout's bank makes of one batch of recordings.

    Attributes:
        currents: of a synapse of weight 1 from each neuron, through each decay, [recordings, steps, decays * neurons].
        steps: of each recording.
        target: class of each recording.
    """

    currents: Tensor
    steps: Tensor
    target: Tensor


class Readout:
    """The readout of a run, by itself: the layers before it stay as they are, so what they send is made once."""

    def __init__(self, folder: Path) -> None:
        model = load_model(folder)
        assert isinstance(model, Network)
        self.model, self.recipe = model, recipe_of(folder)
        layer, bank = model.named_layers()["readout"], model.banks["readout"]
        kept = self.recipe.kept
        self.start = layer.get_parameter("w_in").detach()[kept]
        self.weight = self.start.clone().requires_grad_()
        self._decays = torch.tensor(bank.decays)
        self._coefficients = bank.coefficients(layer.get_parameter("r_in").detach()[kept]).float()
        self.front = Front(encoder_spec(), variation(old=False))
        self._class = torch.tensor(self.recipe.vocabulary.class_of_word)

    def hear(self, clips: Sequence[Clip]) -> list[Arrived]:
        """Run the layers before the readout on recordings, shorter ones first."""
        return [self._heard(batch) for batch in encoded(self.front, clips)]

    def hear_varied(self, clips: Sequence[Clip], rng: np.random.Generator) -> list[Arrived]:
        """Run the layers before the readout on recordings that are varied as in training."""
        batches = [self.front.vary(clips, TAIL_STEPS, rng) for _ in range(VARIANTS)]
        return [self._heard(replace(one, events=level_changes(one.events, encoder_spec()))) for one in batches]

    @torch.no_grad()
    def _heard(self, batch: Batch) -> Arrived:
        spikes = self.model.rollout(batch.events, "bank", batch.steps).hidden_spikes[-1]
        currents = torch.empty(*spikes.shape[:2], len(self._decays), spikes.shape[2])
        now = torch.zeros(currents.shape[0], *currents.shape[2:])
        for step in range(spikes.shape[1]):
            now = self._decays.unsqueeze(-1) * now + spikes[:, step].unsqueeze(1)
            currents[:, step] = now
        return Arrived(currents.flatten(2), batch.steps, self._class[batch.target])

    def outputs(self, arrived: Arrived) -> Tensor:
        """Return the potentials of the labels' outputs."""
        weights = (self.weight.unsqueeze(-1) * self._coefficients).transpose(1, 2).flatten(1)
        return arrived.currents @ weights.T

    def learn(self, takes: Sequence[Arrived], how: Setting) -> None:
        """Fine-tune the readout's weights, from those of the run."""
        with torch.no_grad():
            self.weight.copy_(self.start)
        optimiser = torch.optim.Adam([self.weight], lr=how.learning_rate)
        for _ in range(how.updates):
            optimiser.zero_grad()
            loss = how.towards * (self.weight - self.start).square().sum() / self.start.square().sum()
            for heard in takes:
                logits = self.outputs(heard)
                late = weights(heard.steps, logits.shape[1], 3).to(logits.dtype)
                target = heard.target.repeat_interleave(logits.shape[1])
                each = cross_entropy(logits.flatten(0, 1), target, reduction="none", label_smoothing=0.05)
                loss = loss + (each.view_as(late) * late).sum(1).mean() / len(takes)
            loss.backward()
            optimiser.step()

    @torch.no_grad()
    def best(self, heard: Sequence[Arrived]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the likeliest digit of each recording, and its probability."""
        found = torch.cat([probabilities(self.outputs(one), one.steps, 3)[:, : len(DIGITS)] for one in heard])
        return found.argmax(1).numpy(), found.amax(1).numpy()


def study(runs: Path, data: Path, speakers: Sequence[str]) -> dict[str, Any]:
    """Return the accuracy before and after, and other words named, of each speaker and setting; means of five draws."""
    found: dict[str, Any] = {}
    division = Division.load()
    for speaker in speakers:
        readout = Readout(runs / f"without-{speaker}")
        words = readout.recipe.vocabulary
        clips = [one for one in of_wavs(data / "studio", words, "studio") if one.speaker == speaker]
        people = of_people(data / "people", division, words, "validation")
        own = readout.hear([one for one in people if one.word in DIGITS])
        others = readout.hear([one for one in people if one.word not in DIGITS])
        each: dict[str, list[dict[str, float]]] = {}
        for draw in range(DRAWS):
            rng = np.random.default_rng(draw)
            chosen = _drawn(clips, rng)
            learned = [one for index, one in enumerate(clips) if index in chosen]
            takes = [*readout.hear(learned), *readout.hear_varied(learned, rng)]
            judged = readout.hear([one for index, one in enumerate(clips) if index not in chosen])
            for how in (None, *SETTINGS):
                readout.learn(takes, how or Setting(0, 0.0, 0.0))
                each.setdefault("before" if how is None else str(how), []).append(
                    _figures(readout, judged, own, others)
                )
        found[speaker] = {
            name: {figure: fmean(one[figure] for one in draws) for figure in draws[0]} for name, draws in each.items()
        }
    return found


def _drawn(clips: Sequence[Clip], rng: np.random.Generator) -> set[int]:
    found: set[int] = set()
    for word in DIGITS:
        takes = [index for index, one in enumerate(clips) if one.word == word]
        found |= set(rng.permutation(takes)[:TAKES].tolist())
    return found


def _figures(
    readout: Readout, judged: Sequence[Arrived], own: Sequence[Arrived], others: Sequence[Arrived]
) -> dict[str, float]:
    best, _ = readout.best(judged)
    least = np.quantile(readout.best(own)[1], REFUSED)
    return {
        "right": float((best == torch.cat([one.target for one in judged]).numpy()).mean()),
        "others named": float((readout.best(others)[1] >= least).mean()),
    }


def verdict(found: Mapping[str, Any]) -> str:
    """Judge each speaker with the settings that are best for the others."""
    rows, gains = [], []
    for speaker, each in found.items():
        rest = [one for name, one in found.items() if name != speaker] or [each]
        how = max(map(str, SETTINGS), key=lambda name: fmean(one[name]["right"] for one in rest))
        before, after = each["before"], each[how]
        gains.append(after["right"] - before["right"])
        shares = (before["right"], after["right"], before["others named"], after["others named"])
        rows.append([speaker, *map(percent, shares), how])
    head = ["left out", "right before", "after", "others named before", "after", "settings that the others choose"]
    return f"{table(head, rows)}\nGain in points, mean over speakers: {over_seeds(gains)}\n"
