"""The paper's experiments: tasks with their data, runs, claims about trained networks, and the report."""
