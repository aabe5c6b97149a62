"""What is wrong with a NIR file, or with what was asked for."""

from __future__ import annotations

from service.errors import HetsynError


class NirError(HetsynError):
    """A NIR file that cannot be imported, or a network that NIR cannot hold; the message says what to do."""
