"""Training of one network of a recipe: draws, variation, loss, validation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from hetsyn_model.network import Network
from hetsyn_model.readout import decide
from hetsyn_model.rollout import Rollout
from hetsyn_model.run_folder import replace_file
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.datasets.data import DataError
from hetsyn_model.training.datasets.examples import digest_of
from hetsyn_model.training.encoding.augment import augment_batch
from hetsyn_model.training.encoding.front import AudioFront
from hetsyn_model.training.fitting import KEPT_STREAMS, keep_streams
from hetsyn_model.training.history import History, ValidationResult
from hetsyn_model.training.loop import Callbacks, Optimisation, train
from hetsyn_model.training.schedule import cosine_factor
from hetsyn_model.training.tied_layer import level_changes, untie
from recipes.speech.networks import CONFIG, ENCODER, Model, Shape, keep_outputs, make, readout
from recipes.speech.pool import Clip, Draws, Pool
from recipes.speech.vocabulary import FINE_WORDS, VOCABULARIES, Vocabulary, percent

BEST = "best.pt"
DESCRIPTIONS: Final = {
    "digits": "Ten spoken English digits, or none of them, 8 kHz audio",
    "commands": "Ten spoken English commands, or none of them, 8 kHz audio",
}
SERVABLE: Final = ("hetsyn",)  # kinds of networks that are shipped
TAIL_STEPS, SERVED_TAIL_STEPS = 15, 10
TRIMMED: Final = 0.8  # share of the batches whose words lose the pauses around them
SHARPNESS: Final = 10.0
READOUT_DECAYS: Final = 5  # of the served readout's bank: nobody hears the difference, and a session has 16 kB


@dataclass(frozen=True)
class Recipe:
    """All that a run depends on besides its recordings.

    Attributes:
        model: ``digits`` or ``commands``.
        rejects, people, old_variation: always these; kept runs name them.
        shape: of the network.
        draws: of an epoch.
        leave_out: speaker of FSDD who is left out.
        epochs: of training.
        batch: examples of an update.
        learning_rate: highest.
        bank_size: decays of each bank in training.
        refit_every: updates between two fits of the banks.
        smoothing: of the labels.
        late: weight of the cross entropy that counts later steps most.
        words: weight of the auxiliary readout, which names every frequent word.
        teachers: folders of runs whose mean probabilities are learned.
        distillation: weight of them.
        seed: of weights, draws and variation.
    """

    model: str = "digits"
    rejects: Literal[True] = True
    shape: Shape = field(default_factory=Shape)
    draws: Draws = field(default_factory=Draws)
    people: None = None
    leave_out: str = ""
    epochs: int = 12
    batch: int = 64
    learning_rate: float = 5e-3
    bank_size: int = 8
    refit_every: int = 5
    smoothing: float = 0.05
    late: float = 0.5
    words: float = 0.3
    teachers: tuple[str, ...] = ()
    distillation: float = 0.5
    old_variation: Literal[False] = False
    seed: int = 0

    @property
    def vocabulary(self) -> Vocabulary:
        return VOCABULARIES[self.model]

    @property
    def outputs(self) -> int:
        """Outputs in training: of the classes, then of the auxiliary words."""
        return len(self.vocabulary.classes) + len(FINE_WORDS)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that are judged and served: the classes, then each other frequent word.

        They compete in one softmax. A network that hears a frequent other word then need not call it unknown, nor a
        word of its own.
        """
        return (*self.vocabulary.classes, *self.vocabulary.others)

    @property
    def served_banks(self) -> list[int]:
        """Decays of each layer's bank as served."""
        return [*(self.bank_size for _ in self.shape.hidden), READOUT_DECAYS]

    @property
    def kept(self) -> list[int]:
        """Indices of the outputs of ``labels``."""
        classes = len(self.vocabulary.classes)
        return [*range(classes), *(classes + FINE_WORDS.index(word) for word in self.vocabulary.others)]


class Front(AudioFront):
    """The shipped front, whose batches are partly of words without their pauses.

    For strangers' rooms, recordings are varied with more noise, level and quiet than ``hetsyn train`` varies them.
    """

    def __init__(self) -> None:
        self._trimmed = replace(
            CONFIG.augmentation.audio,
            level_db=(-46.0, 20.0),
            noise_db=(-60.0, -8.0),
            lead_steps=40,
            delete=0.02,
            telephone=0.15,
        )
        self._whole = replace(self._trimmed, trim_db=0.0)
        super().__init__(ENCODER, self._trimmed)

    def vary(self, items: Sequence[Any], tail_steps: int, rng: np.random.Generator) -> Batch:
        augment = self._trimmed if rng.random() < TRIMMED else self._whole
        # one longest lead a batch: with one a word, every batch is as long as its longest
        lead = int(rng.integers(0, augment.lead_steps + 1))
        return augment_batch(self._encoder, items, tail_steps, replace(augment, lead_steps=lead), rng)


FRONT: Final = Front()


def weights(steps: Tensor, longest: int, power: int) -> Tensor:
    """Return what each step counts, [b, longest], in sum 1: its number to a power."""
    number = torch.arange(1, longest + 1, dtype=torch.float64)
    weight = torch.where(number <= steps.unsqueeze(-1), number**power, 0.0)
    return weight / weight.sum(1, keepdim=True)


def probabilities(logits: Tensor, steps: Tensor, power: int) -> Tensor:
    """Return class probabilities [b, outputs] of streams: the weighted mean of softmax over their steps."""
    each = torch.softmax(logits.double(), -1)
    return (each * weights(steps, logits.shape[1], power).unsqueeze(-1)).sum(1)


class SpeechData:
    """The data of a run, as the training loop takes them; an epoch ends with each evaluation."""

    def __init__(self, recipe: Recipe, pool: Pool, validation: Sequence[Clip]) -> None:
        self.recipe, self.pool = recipe, pool
        words = recipe.vocabulary
        self._class = torch.tensor(words.class_of_word)
        self._classes = len(words.classes)
        self.updates_per_epoch = -(-len(pool.epoch(np.random.default_rng(0))) // recipe.batch)
        self._teachers = [load_model(Path(folder)) for folder in recipe.teachers]
        self._heard = [batch for _, batch in encoded(validation)]

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        epoch = first // self.updates_per_epoch
        rng = np.random.default_rng([self.recipe.seed, epoch])
        torch.manual_seed(self.recipe.seed * 100_003 + epoch)
        drawn = self.pool.epoch(rng)
        order = np.argsort([one.length * rng.uniform(0.9, 1.1) for one in drawn])
        size = -(-len(drawn) // (last - first))  # splices may fail: as many batches all the same
        parts = [[drawn[int(index)] for index in order[at : at + size]] for at in range(0, len(order), size)]
        while len(parts) < last - first:
            parts.append(parts[int(rng.integers(len(parts)))])
        for index in rng.permutation(len(parts)):
            batch = FRONT.vary(parts[int(index)], TAIL_STEPS, rng)
            yield replace(batch, events=level_changes(batch.events, ENCODER))

    def forward(self, model: Model, batch: Batch) -> Rollout:
        logits = readout(model, batch)
        rule = DecisionSpec("sum_softmax")
        classes = logits[..., : self._classes]
        return Rollout(logits, [], decide(rule, classes, batch.steps), batch.steps, rule)

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        recipe, target = self.recipe, self._class[batch.target]
        classes, words = rolled.readout[..., : self._classes], rolled.readout[..., self._classes :]
        late = weights(batch.steps, classes.shape[1], 3).to(classes.dtype)
        mean = rolled.scores / batch.steps.unsqueeze(-1) * SHARPNESS
        loss = cross_entropy(mean, target, label_smoothing=recipe.smoothing)
        loss = loss + recipe.late * _late(classes, target, late, recipe.smoothing)
        if self._teachers:
            with torch.no_grad():
                taught = torch.stack([self._taught(teacher, batch) for teacher in self._teachers]).mean(0)
            each = -(taught.unsqueeze(1) * log_softmax(classes, -1)).sum(-1)
            distilled = (each * late).sum(1).mean()
            loss = (1.0 - recipe.distillation) * loss + 2.0 * recipe.distillation * distilled
        return loss + recipe.words * _late(words, batch.target, late, recipe.smoothing)

    def _taught(self, teacher: Model, batch: Batch) -> Tensor:
        logits = readout(teacher, batch)[..., : self._classes]
        return probabilities(logits, batch.steps, 3).float()

    def measure(self, rolled: Rollout, batch: Batch) -> Mapping[str, Tensor]:
        right = rolled.scores.argmax(-1) == self._class[batch.target]
        return {"train_accuracy": right.double()}

    def evaluate(self, model: Model) -> ValidationResult:
        model.eval()
        losses, right = [], []
        with torch.no_grad():
            for batch in self._heard:
                found = probabilities(readout(model, batch)[..., : self._classes], batch.steps, 3)
                target = self._class[batch.target]
                losses.append(-found[torch.arange(len(target)), target].clamp_min(1e-6).log())
                right.append((found.argmax(-1) == target).double())
        return ValidationResult(float(torch.cat(right).mean()), float(torch.cat(losses).mean()))

    def better(self, a: ValidationResult, b: ValidationResult) -> bool:
        return a.loss <= b.loss

    def checkpoint(self, model: Model, update: int) -> bytes:
        buffer = BytesIO()
        torch.save({"model": model.save(), "epoch": update // self.updates_per_epoch - 1}, buffer)
        return buffer.getvalue()


def _late(logits: Tensor, target: Tensor, weight: Tensor, smoothing: float) -> Tensor:
    repeated = target.repeat_interleave(logits.shape[1])
    each = cross_entropy(logits.flatten(0, 1), repeated, reduction="none", label_smoothing=smoothing)
    return (each.view_as(weight) * weight).sum(1).mean()


def encoded(clips: Sequence[Clip], size: int = 128) -> Iterator[tuple[Sequence[Clip], Batch]]:
    """Encode recordings as the server does, whole and with the silence that ends a session; yield both."""
    ordered = sorted(clips, key=lambda one: one.audio.size)
    for at in range(0, len(ordered), size):
        part = ordered[at : at + size]
        batch = FRONT.encode(part, SERVED_TAIL_STEPS)
        yield part, replace(batch, events=level_changes(batch.events, ENCODER))


def run(out: Path, recipe: Recipe, pool: Pool, validation: Sequence[Clip]) -> History:
    """Train, or go on training, the run in a folder; ``best.pt`` has the network of the lowest validation loss."""
    data = SpeechData(recipe, pool, validation)
    updates = recipe.epochs * data.updates_per_epoch
    model = make(recipe.shape, recipe.outputs, recipe.seed)

    def show(history: History) -> None:
        right, loss = history.validation[-1], history.validation_loss[-1]
        epoch = f"epoch {len(history.update)} of {recipe.epochs}"
        print(f"{out.name}: {epoch}, {percent(right)} right, validation loss {loss:.3f}", flush=True)

    return train(
        out,
        {"recipe": json.loads(json.dumps(asdict(recipe))), "recordings": digest_of(pool.clips)},
        model,
        data,
        Optimisation(
            updates=updates,
            evaluate_every=data.updates_per_epoch,
            learning_rate=recipe.learning_rate,
            schedule=lambda update: cosine_factor(update / updates, 0.05, 0.05),
            bank_size=recipe.bank_size,
            refit_every=recipe.refit_every,
            decay_rate_factor=2.0,
            weight_decay=4e-3,
            clip=5.0,
            average=None if recipe.shape.kind == "cnn" else 0.998,
        ),
        callbacks=Callbacks(on_evaluation=show),
    )


def recipe_of(folder: Path) -> Recipe:
    """Read the recipe of a run's folder."""
    saved = json.loads((folder / "run.json").read_text())["recipe"]
    saved["shape"] = Shape(**saved["shape"] | {"hidden": tuple(saved["shape"]["hidden"])})
    saved["draws"] = Draws(**saved["draws"])
    saved["teachers"] = tuple(saved["teachers"])
    return Recipe(**saved)


def load_model(folder: Path) -> Model:
    """Load the chosen network of a run, on level changes, with the auxiliary outputs that it was trained with.

    Raises:
        DataError: nobody has trained it.
    """
    if not (folder / BEST).exists():
        raise DataError(f"{folder}: has no network yet: run python -m recipes.speech train {folder.name}")
    recipe = recipe_of(folder)
    model = make(recipe.shape, recipe.outputs, recipe.seed)
    saved = torch.load(folder / BEST, weights_only=True)
    model.restore(saved["model"])
    model.eval()
    return model


def as_served(model: Model, recipe: Recipe) -> tuple[Model, Sequence[int]]:
    """Return the network as it is judged, and the outputs of its labels.

    A network that is shipped has those outputs alone, and the banks of its artifact.
    """
    if recipe.shape.kind not in SERVABLE:
        return model, recipe.kept
    assert isinstance(model, Network)
    network = keep_outputs(model, recipe.kept)
    network.fit_banks(size=recipe.served_banks)
    network.eval()
    return network, range(len(recipe.kept))


def keep_served(folder: Path, validation: Sequence[Clip]) -> None:
    """Write ``served/best.pt`` of a spiking run, as ``hetsyn export`` takes it, with streams that verify the export.

    The streams are of the model's own words. The network is on the encoder's spikes, has the outputs of its labels, and
    is as it is judged.
    """
    recipe = recipe_of(folder)
    model, words = load_model(folder), recipe.vocabulary
    network, _ = as_served(model, recipe)
    assert isinstance(network, Network)
    rejected = tuple(label for label in recipe.labels if label not in words.named)
    config = replace(CONFIG, description=DESCRIPTIONS[recipe.model], names={}, rejected=rejected)
    saved = torch.load(folder / BEST, weights_only=True)
    out = folder / "served"
    out.mkdir(exist_ok=True)
    checkpoint = Checkpoint(
        untie(network, ENCODER),
        ENCODER,
        SERVED_TAIL_STEPS,
        int(saved["epoch"]),
        labels=recipe.labels,
        description=config.description,
        config=config.to_dict(),
    )
    replace_file(out / BEST, checkpoint.to_bytes())
    own = [one for one in validation if one.word in words.named]
    chosen = [own[int(index)] for index in np.random.default_rng(0).permutation(len(own))[:KEPT_STREAMS]]
    batch = FRONT.encode(chosen, SERVED_TAIL_STEPS)
    keep_streams(out, replace(batch, target=torch.tensor(words.class_of_word)[batch.target]))
