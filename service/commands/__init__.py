"""The commands of a server: ``hetsyn serve``, ``keys``, ``reload`` and ``run``. ``hetsyn.py`` finds them here."""
