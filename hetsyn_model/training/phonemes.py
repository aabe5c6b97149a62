"""Phonemes as a second target: in training the readout has outputs for them, which the kept network does not have.

A word's class says only that the whole was right. Its phonemes, in their order, say what a part of it is, and words
share them: the hidden neurons then have a reason to hear parts of words as others say them too. Nobody has to say when
each phoneme is: the loss is connectionist temporal classification (Graves et al., 2006), which sums over all ways of
placing them, with a blank between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import ctc_loss

from hetsyn_model.network import Network
from hetsyn_model.readout import decide
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import NetworkSpec, SpecError

BLANK = 0


@dataclass(frozen=True)
class PhonemesSpec:
    """The phonemes of the words, and what they count in training.

    Attributes:
        weight: factor on their loss, which is in nats a step; 0 trains without.
        words: by a class's label in the data, its phonemes in their order, apart by spaces, in any alphabet. A class
            without an entry, such as ``unknown``, has no part in the loss; one with an empty text has no phoneme.
    """

    weight: float = 0.0
    words: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise SpecError(f"weight: {self.weight} is below 0")


@dataclass(frozen=True)
class PhonemeRollout(Rollout):
    """A rollout whose readout has been divided.

    Attributes:
        symbols: [batch, steps, phonemes + 1], potentials of the phonemes' outputs; the first is the blank's.
        naming: the loss of naming the streams' phonemes, :meth:`Phonemes.loss`.
    """

    symbols: Tensor
    naming: Tensor


class Phonemes:
    """The phonemes of a network's classes.

    Args:
        spec: of the phonemes.
        labels: of the classes, as the data have them.

    Attributes:
        spec: of the phonemes.
        count: outputs for them, the blank's among these.
        outputs: of the classes.

    Raises:
        SpecError: no class has phonemes, or a word is none of the classes.
    """

    def __init__(self, spec: PhonemesSpec, labels: Sequence[str]) -> None:
        unknown = sorted(set(spec.words) - set(labels))
        if unknown:
            raise SpecError(
                f"words: {unknown[0]!r} is no class of the data: write [phonemes.words] for {', '.join(labels)}"
            )
        named = {label: spec.words[label].split() for label in labels if label in spec.words}
        known = sorted({phoneme for word in named.values() for phoneme in word})
        if not known:
            raise SpecError("words: no class has phonemes: name those of each word, or set weight to 0")
        index = {phoneme: number for number, phoneme in enumerate(known, BLANK + 1)}
        self.spec, self.count, self.outputs = spec, len(known) + 1, len(labels)
        self._has_word = torch.tensor([label in named for label in labels])
        words = [[index[phoneme] for phoneme in named.get(label, [])] for label in labels]
        self._lengths = torch.tensor([len(word) for word in words])
        self._words = torch.zeros(len(words), max(map(len, words)), dtype=torch.int64)
        for row, word in zip(self._words, words, strict=True):
            row[: len(word)] = torch.tensor(word, dtype=torch.int64)

    def widened(self, spec: NetworkSpec) -> NetworkSpec:
        """The description of a network with outputs for the phonemes behind those of the classes."""
        return replace(spec, outputs=spec.outputs + self.count)

    @torch.no_grad()
    def without(self, network: Network) -> Network:
        """The network without the outputs of the phonemes; those of the classes stay as they are."""
        kept = Network(replace(network.spec, outputs=self.outputs))
        own = kept.state_dict()
        kept.load_state_dict(
            {
                name: tensor if tensor.shape == own[name].shape else tensor[: self.outputs]
                for name, tensor in network.state_dict().items()
            }
        )
        kept.banks = dict(network.banks)
        return kept.to(network.device)

    def divided(self, rolled: Rollout, target: Tensor) -> PhonemeRollout:
        """A rollout of the widened network, with the decision of its classes alone.

        Args:
            rolled: streams of the widened network.
            target: int64 [b], classes.
        """
        classes, symbols = rolled.readout[..., : self.outputs], rolled.readout[..., self.outputs :]
        scores = rolled.scores[:, : self.outputs]
        if rolled.decision.averages_softmax:  # whose softmax was over all outputs
            scores = decide(rolled.decision, classes, rolled.steps)
        naming = self.loss(symbols, rolled.steps, target)
        return PhonemeRollout(classes, rolled.hidden_spikes, scores, rolled.steps, rolled.decision, symbols, naming)

    def loss(self, symbols: Tensor, steps: Tensor, target: Tensor) -> Tensor:
        """Negative log likelihood of the words' phonemes a step, in the mean over the streams that have a word.

        Args:
            symbols: [b, longest, phonemes + 1], potentials of the phonemes' outputs.
            steps: int64 [b], length of each stream.
            target: int64 [b], classes.
        """
        device = target.device
        words, lengths = self._words.to(device)[target], self._lengths.to(device)[target]
        has_word = self._has_word.to(device)[target]
        found = ctc_loss(
            torch.log_softmax(symbols, -1).transpose(0, 1),
            *(words, steps, lengths),
            blank=BLANK,
            reduction="none",
            zero_infinity=True,  # a stream that is shorter than its word says nothing
        )
        each = torch.where(has_word, found / steps.clamp_min(1), 0.0)
        return each.sum() / has_word.sum().clamp_min(1)
