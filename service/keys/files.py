"""Files that an operator changes while the server runs: keys files, certificates."""

from __future__ import annotations

import ssl
from pathlib import Path

from service.errors import HetsynError

Stamp = tuple[int, ...] | None


def stamp(path: Path) -> Stamp:
    """What changes when a file or its rights change; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    # the last changes with the rights too
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class CertificateFiles:
    """The files of a certificate chain and its private key. It is safe to use from several threads.

    Args:
        chain: file in PEM.
        key: file in PEM, without a password.
        options: that name them, for messages.
    """

    def __init__(self, chain: Path, key: Path, options: str) -> None:
        self.chain = chain
        self.key = key
        self._options = options
        self._seen = self._stamps()

    def have_changed(self) -> bool:
        """Whether they have changed since the last call, or since the beginning."""
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        self._seen = stamps
        return True

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
