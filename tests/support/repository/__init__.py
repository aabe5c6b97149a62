"""The repository beside its programs: pages, the stable interface, and the files for deployments."""
