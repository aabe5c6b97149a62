"""The names of the neuron models, and of the experiments for ``python -m research --help``; ``catalog`` has these."""

EXPERIMENT_NAMES = (
    "pattern-generation",
    "delayed-match",
    "vision-rows",
    "vision-pixels",
    "sequential-mnist",
    "bank-size",
    "speech",
    "shd",
    "shd-recorded",
    "delays",
    "delays-series",
    "motion",
    "mnist1d",
    "fractional",
    "pairs",
    "resonance-voices",
    "resonance-rows",
)
NAMES = {
    "hetsyn": "HetSyn",
    "hetneu": "HetNeu",
    "alif": "ALIF",
    "homneu": "LIF",
    "lstm": "LSTM",
    "se-adlif": "SE-adLIF",
    "hetsyn-resonance": "HetSyn resonance",
}
