"""The names of the experiments, for ``hetsyn experiment --help``; ``catalog.py`` has the experiments."""

EXPERIMENT_NAMES = (
    "pattern-generation",
    "delayed-match",
    "vision-rows",
    "vision-pixels",
    "speech",
    "shd",
    "shd-recorded",
)
