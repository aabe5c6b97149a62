"""The common parts of ``hetsyn stream`` and ``hetsyn run``: input, answers as lines, and folders."""
