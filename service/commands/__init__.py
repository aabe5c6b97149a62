"""The commands of a server: ``hetsyn serve``, ``keys`` and ``run``. ``hetsyn.py`` finds them here."""
