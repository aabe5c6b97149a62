"""The contract of artifacts: manifest, files, graphs and decision rules. The exporter imports it."""
