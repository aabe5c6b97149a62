"""Curves of a training run as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib

from hetsyn_model.training.loop import Metrics

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def plot_curves(metrics: Metrics, path: Path, title: str) -> None:
    """Loss and accuracy an epoch, the chosen epoch marked, as PNG."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    epochs = range(1, len(metrics.loss) + 1)
    left.plot(epochs, metrics.loss, label="training (augmented)")
    left.plot(epochs, metrics.validation_loss, label="validation, -log p")
    left.set(xlabel="epoch", ylabel="loss")
    right.plot(epochs, [100 * a for a in metrics.train_accuracy], label="training (augmented)")
    right.plot(epochs, [100 * a for a in metrics.validation_accuracy], label="validation")
    right.set(xlabel="epoch", ylabel="accuracy, %", ylim=(0, 101))
    for axis in (left, right):
        axis.axvline(metrics.best_epoch + 1, color="grey", linestyle=":", label="chosen epoch")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)
