"""A trained network on disk, as ``best.pt`` of a run and ``network.pt`` of an artifact."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from hetsyn_model.encoders.level_crossing import AnyEncoderSpec, encoder_from_dict
from hetsyn_model.network import Network
from hetsyn_model.spec.errors import ModelError


class CheckpointFileError(ModelError):
    """Not a checkpoint of ``hetsyn train``; the message says what it is instead."""

    code = "bad-checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and what serving it needs.

    Attributes:
        encoder: encoder of audio or values; None for a network that takes spikes.
        tail_steps: steps of silence that end a stream.
        epoch: its number in the training: the epoch from 0 (``hetsyn train``) or the update (experiments); None if
            untrained.
        experiment: the run of ``python -m research`` that trained it; None if none did.
        labels: names of the outputs; empty in older checkpoints.
        description: one line for people.
        config: the training's configuration (:meth:`hetsyn_model.training.config.Config.to_dict`); None without.
        input_description: what the channels are, for people; empty if the encoder says it.
    """

    network: Network
    encoder: AnyEncoderSpec | None
    tail_steps: int
    epoch: int | None
    experiment: dict[str, Any] | None = None
    labels: tuple[str, ...] = ()
    description: str = ""
    config: dict[str, Any] | None = None
    input_description: str = ""

    def to_bytes(self) -> bytes:
        buffer = BytesIO()
        values = {
            "network": {**self.network.save(), "hold": False},  # training holds banks; who goes on need not
            "encoder": None if self.encoder is None else self.encoder.to_dict(),
            "tail_steps": self.tail_steps,
            "epoch": self.epoch,
            "experiment": self.experiment,
            "labels": list(self.labels),
            "description": self.description,
            "config": self.config,
            "input_description": self.input_description,
        }
        torch.save(values, buffer)
        return buffer.getvalue()

    @staticmethod
    def load(path: Path) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            CheckpointFileError: there is no file, or it is no checkpoint.
        """
        try:
            saved = torch.load(path, weights_only=True, map_location="cpu")
            return Checkpoint(
                Network.load(saved["network"]),
                None if saved["encoder"] is None else encoder_from_dict(saved["encoder"]),
                int(saved["tail_steps"]),
                saved["epoch"],
                saved.get("experiment"),
                tuple(saved.get("labels", ())),
                saved.get("description", ""),
                saved.get("config"),
                saved.get("input_description", ""),
            )
        except OSError as error:
            raise CheckpointFileError(f"{path}: the checkpoint cannot be read ({error.strerror})") from error
        except (KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0][:120]
            raise CheckpointFileError(f"{path}: not a checkpoint of `hetsyn train` ({reason})") from error
