"""Networks that another learns from besides the labels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Generic

from hetsyn_model.network import Network
from hetsyn_model.training.examples import T
from hetsyn_model.training.front import Front


def fingerprint(network: Network, encoder: dict[str, object] | None = None) -> str:
    """Of a network's weights, and of the description of an encoder."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    if encoder is not None:
        digest.update(json.dumps(encoder, sort_keys=True).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Teacher(Generic[T]):
    """A trained network whose probabilities a student learns besides the labels.

    Attributes:
        network: on the spikes of its front.
        front: its own, which varies an example as the student's does from the same random numbers; None for the
            student's.
    """

    network: Network
    front: Front[T] | None = None

    @property
    def fingerprint(self) -> str:
        """Of the weights, and of an encoder of its own."""
        own = None if self.front is None or self.front.spec is None else self.front.spec.to_dict()
        return fingerprint(self.network, own)
