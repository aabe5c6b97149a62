"""The description of the spike threshold's surrogate derivative in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hetsyn_model.spec.errors import require

SurrogateKind = Literal["gaussian", "triangular", "exponential"]


@dataclass(frozen=True)
class SurrogateSpec:
    """The surrogate derivative of the spike threshold (:func:`hetsyn_model.neurons.spike.surrogate_derivative`).

    Attributes:
        kind: ``gaussian``, the paper's shape for speech; ``triangular``, its shape for the other tasks; or
            ``exponential``, SLAYER's, which SE-adLIF has with a width of 0.2.
        gain: factor on the derivative.
        width: half-width of ``triangular``, or the distance in which ``exponential`` falls to 1/e, as a factor on the
            threshold.
    """

    kind: SurrogateKind = "gaussian"
    gain: float = 1.0
    width: float = 1.0

    def __post_init__(self) -> None:
        require(
            self.kind in get_args(SurrogateKind), f"surrogate.kind: {self.kind!r} is none of {get_args(SurrogateKind)}"
        )
        require(self.width > 0, f"surrogate.width: {self.width} is not above 0")
