"""Networks of other libraries, and ours for them, by NIR: the exchange format of spiking networks (``nir`` on PyPI)."""

from __future__ import annotations

from service.errors import InputError


class NirError(InputError):
    """A NIR file that cannot be imported, or a network that NIR cannot hold; the message says what to do."""

    code = "bad-nir"


class Unsupported(NirError):
    """A node, a loop or a shape that no import can run: the verdict ``unsupported``."""

    code = "nir-unsupported"
