"""The names of the neuron models."""

NAMES = {
    "hetsyn": "HetSyn",
    "hetneu": "HetNeu",
    "alif": "ALIF",
    "homneu": "LIF",
    "lstm": "LSTM",
    "gru": "GRU",
    "se-adlif": "SE-adLIF",
    "hetsyn-resonance": "HetSyn resonance",
    "dh-snn": "DH-SNN",
    "free-bank": "free bank",
}
