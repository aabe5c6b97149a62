"""What ``hetsyn stream`` and ``hetsyn run`` have in common: input, answers as lines, and folders."""
