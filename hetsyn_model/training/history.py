"""The record of a training run: one entry an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ValidationResult:
    """The figures of a network on validation data, means over all streams.

    Attributes:
        figure: accuracy, or the mean squared error of a trace.
        measures: further figures by name, for the history; they do not choose the network.
    """

    figure: float
    loss: float
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass
class History:
    """A training run so far, one entry an evaluation.

    Attributes:
        update: number of finished updates.
        loss: mean training loss since the evaluation before.
        validation: figure on validation data.
        measures: further means over the training batches since the evaluation before, and further figures, by name.
        seconds: time since the evaluation before.
        processor_seconds: processor time of all threads since then.
        chosen: index of the best evaluation; ``best.pt`` has its network. -1 before the first.
    """

    update: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    measures: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    chosen: int = -1

    @property
    def best(self) -> ValidationResult | None:
        """Return the chosen evaluation; None before the first."""
        return (
            None
            if self.chosen < 0
            else ValidationResult(self.validation[self.chosen], self.validation_loss[self.chosen])
        )

    def append(self, update: int, loss: float, evaluation: ValidationResult, measures: Mapping[str, float]) -> None:
        self.update.append(update)
        self.loss.append(loss)
        self.validation.append(evaluation.figure)
        self.validation_loss.append(evaluation.loss)
        for name, value in (*measures.items(), *evaluation.measures.items()):
            self.measures.setdefault(name, []).append(value)
