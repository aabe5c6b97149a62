"""The paper's experiments: tasks with their data, runs, and what a time constant a synapse is worth."""
