"""The commands of a server: ``hetsyn serve``, ``reload`` and ``inspect``. ``hetsyn.py`` finds them here."""
