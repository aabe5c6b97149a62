"""Curves of a training run as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib

from hetsyn_model.training.history import History

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def plot_curves(history: History, path: Path, title: str) -> None:
    """Plot loss and accuracy by epoch as PNG, with the chosen epoch marked."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    epochs = range(1, len(history.loss) + 1)
    left.plot(epochs, history.loss, label="training (augmented)")
    left.plot(epochs, history.validation_loss, label="validation, -log p")
    left.set(xlabel="epoch", ylabel="loss")
    right.plot(epochs, [100 * a for a in history.measures["train_accuracy"]], label="training (augmented)")
    right.plot(epochs, [100 * a for a in history.validation], label="validation")
    right.set(xlabel="epoch", ylabel="accuracy, %", ylim=(0, 101))
    for axis in (left, right):
        axis.axvline(history.chosen + 1, color="grey", linestyle=":", label="chosen epoch")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)
