"""A trained network on disk: what export, judging and the artifact's own copy read."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from hetsyn_model.encoder import EncoderSpec
from hetsyn_model.network import Network


class CheckpointFileError(ValueError):
    """Not a checkpoint of ``hetsyn train``; the message says what it is instead."""


@dataclass(frozen=True)
class Checkpoint:
    """A network, the encoder that it hears with (None: it takes spikes), the steps of silence that end a stream, the
    training epoch or update that it is from, and the experiment's run that made it, if one did."""

    network: Network
    encoder: EncoderSpec | None
    tail_steps: int
    epoch: int | None
    experiment: dict[str, Any] | None = None

    def to_bytes(self) -> bytes:
        buffer = BytesIO()
        encoder = None if self.encoder is None else self.encoder.to_dict()
        values = {
            "network": self.network.save(),
            "encoder": encoder,
            "tail_steps": self.tail_steps,
            "epoch": self.epoch,
        }
        torch.save(values if self.experiment is None else values | {"experiment": self.experiment}, buffer)
        return buffer.getvalue()

    @staticmethod
    def load(path: Path) -> Checkpoint:
        """
        Raises:
            CheckpointFileError: there is none, or it is something else.
        """
        try:
            saved = torch.load(path, weights_only=True)
            return Checkpoint(
                Network.load(saved["network"]),
                None if saved["encoder"] is None else EncoderSpec(**saved["encoder"]),
                int(saved["tail_steps"]),
                saved["epoch"],
                saved.get("experiment"),
            )
        except OSError as error:
            raise CheckpointFileError(f"{path}: no readable checkpoint ({error.strerror})") from error
        except (KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0][:120]
            raise CheckpointFileError(f"{path}: not a checkpoint of `hetsyn train` ({reason})") from error
