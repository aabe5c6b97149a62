"""Files that an operator changes while the server runs: keys files, certificates."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from service.errors import HetsynError

Stamp = tuple[int, ...] | None
T = TypeVar("T")

log = logging.getLogger("hetsyn.tls")


def stamp(path: Path) -> Stamp:
    """Return a value that changes when a file or its permissions change; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    # the last changes with the rights too
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class CertificateFiles:
    """The files of a certificate chain and its private key. Threads may share it.

    Args:
        chain: file in PEM.
        key: file in PEM, without a password.
        options: the options that name the files, for messages.
    """

    def __init__(self, chain: Path, key: Path, options: str) -> None:
        self.chain = chain
        self.key = key
        self._options = options
        self._seen = self._stamps()
        self._problem = ""

    def read_again(self, read: Callable[[], T]) -> T | None:
        """Call ``read`` if the files have changed since it last succeeded. None: keep the certificate.

        Files that cannot be used are tried again at the next call: one of them may still be being written.

        Args:
            read: reads them, or raises ``HetsynError``.
        """
        stamps = self._stamps()
        if stamps == self._seen:
            self._problem = ""
            return None
        try:
            found = read()
        except HetsynError as error:
            if self._problem != str(error):
                self._problem = str(error)
                log.error("the certificate of %s stays as it was: %s", self._options, error)
            return None
        # as they were before they were read: what changed meanwhile is read at the next call
        self._seen, self._problem = stamps, ""
        log.info("the certificate of %s was read again: %s", self._options, self.chain)
        return found

    def load(self, context: ssl.SSLContext) -> None:
        """Have handshakes present the certificate.

        Raises:
            HetsynError: the files cannot be used.
        """
        try:
            # an empty password: the library would ask for one at the terminal
            context.load_cert_chain(self.chain, self.key, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:  # such as: no file, another key
            raise HetsynError(
                f"{self.chain} and {self.key} are no certificate and its key ({error.strerror or error}): name PEM "
                f"files that belong together with {self._options}"
            ) from error

    def check(self) -> None:
        """Check that the files can be used.

        Raises:
            HetsynError: they cannot.
        """
        self.load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    def _stamps(self) -> tuple[Stamp, Stamp]:
        return stamp(self.chain), stamp(self.key)
