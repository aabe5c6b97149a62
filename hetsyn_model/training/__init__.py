"""Training: data, augmentation, the loop, its metrics and checkpoints."""
