"""The networks of other runs as teachers: whether they may be, and what they hear."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from hetsyn_model.bank import BankError
from hetsyn_model.encoder import EncoderSpec
from hetsyn_model.level_crossing import AnyEncoderSpec
from hetsyn_model.run_folder import CONFIGURATION
from hetsyn_model.training.checkpoint import Checkpoint, CheckpointFileError
from hetsyn_model.training.front import AudioFront
from hetsyn_model.training.labelled import digests
from hetsyn_model.training.loop import BEST
from hetsyn_model.training.prepared import Prepared
from hetsyn_model.training.teacher import Teacher

# what an encoder has in common with that of a teacher, so that a recording is varied once for both
SAME_FRAMES = ("sample_rate_hz", "step_samples", "window_samples", "bands", "low_hz", "high_hz")
# what a network has in common with a teacher; layers, neurons, kernels, delays and the quiet before a stream may differ
SAME_ANSWERS = ("input_kind", "channels", "step_s", "outputs", "decision")


def read_teacher(path: Path, prepared: Prepared) -> Teacher[Any]:
    """The network of another run, to learn from.

    Args:
        path: of its ``best.pt``.
        prepared: data and description of the student.

    Raises:
        CheckpointFileError: it hears or answers in another way than its student, or learned from other examples.
    """
    checkpoint, front = Checkpoint.load(path), prepared.front
    if checkpoint.config is not None and checkpoint.config["split"] != prepared.config.to_dict()["split"]:
        raise CheckpointFileError(
            f"{path}: was trained with another split, so it may have learned from examples that test its student: "
            "train it with the same split"
        )
    if prepared.config.training.tied and checkpoint.config is not None and not checkpoint.config["training"]["tied"]:
        raise CheckpointFileError(
            f"{path}: was trained with training.tied = false, so it cannot teach a network that has it: train it with"
        )
    own = None
    if checkpoint.encoder != front.spec:
        own = _other_front(path, checkpoint.encoder, prepared)
    pupil = replace(prepared.spec, channels=(own or front).channels)
    for name in SAME_ANSWERS:
        asked, given = getattr(pupil, name), getattr(checkpoint.network.spec, name)
        if asked != given:
            raise CheckpointFileError(
                f"{path}: its {name} is {given}, its student's {asked}, so it cannot be a teacher: give both the same"
            )
    _check_examples(path, prepared)
    try:
        checkpoint.network.fit_banks()
    except BankError as error:
        raise CheckpointFileError(f"{path}: has no bank to teach with: {error}") from error
    return Teacher(checkpoint.network, own)


def _other_front(path: Path, encoder: AnyEncoderSpec | None, prepared: Prepared) -> AudioFront:
    """The front of a teacher whose encoder has other levels, contrast or emphasis of the same bands and steps.

    Raises:
        CheckpointFileError: the encoders differ in more.
    """
    own, front = prepared.front.spec, prepared.front
    if not (isinstance(front, AudioFront) and isinstance(encoder, EncoderSpec)):
        raise CheckpointFileError(
            f"{path}: its encoder has other settings than its student's, so it cannot be a teacher: give both the same"
        )
    if all(getattr(encoder, name) == getattr(own, name) for name in SAME_FRAMES):
        return AudioFront(encoder, prepared.config.augmentation.audio, front.quiet_steps)
    raise CheckpointFileError(
        f"{path}: its encoder has other frames than its student's, so it cannot be a teacher: give both the same "
        f"{', '.join(SAME_FRAMES[:-1])} and {SAME_FRAMES[-1]}"
    )


def _check_examples(teacher: Path, prepared: Prepared) -> None:
    """Check that a teacher has learned from the examples of its student, by the digests in its run's ``run.json``.

    Raises:
        CheckpointFileError: it has not; or it is of a run, but the run does not say what it has learned from.
    """
    run = teacher.with_name(CONFIGURATION)
    if not run.exists():
        if teacher.name == BEST:
            raise CheckpointFileError(
                f"{run}: is missing, and only it says which examples the teacher has learned from: "
                "copy it there from the teacher's run, or give the folder of a whole run"
            )
        return
    try:
        before = json.loads(run.read_text())["recordings"]
        if not (isinstance(before, list) and len(before) == 3):
            raise ValueError("recordings")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointFileError(f"{run}: does not say what the teacher has learned from: train it again") from error
    data = prepared.data
    for what, learned, own in zip(("training", "extra", "validation"), before, digests(data), strict=True):
        if learned != own:
            raise CheckpointFileError(
                f"{teacher}: was trained with other {what} examples ({learned}; its student: {own}), so it may have "
                "learned from examples that test its student: give both the same data, --extra and left-out groups, "
                "or train a teacher with this command, another --seed and no --teacher"
            )
