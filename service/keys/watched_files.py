"""Files that an operator changes while the server runs: keys files, certificates."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from service.errors import CannotListen, HetsynError

WATCH_S = 1.0

T = TypeVar("T")

log = logging.getLogger("hetsyn.files")


class WatchedFiles:
    """Reads files again when they have changed. Threads may share it. ``what`` names the files in the log."""

    def __init__(self, what: str, *paths: Path) -> None:
        self._what = what
        self._paths = paths
        self._seen = self._stamps()
        self._problem = ""

    def read_again(self, read: Callable[[], T]) -> T | None:
        """Call ``read`` if the files have changed since it last succeeded. None: what was read before counts.

        If ``read`` raises a ``HetsynError``, it is called again the next time: a file may still be being written.
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
                log.error("%s cannot be read again, so nothing changes: %s", self._what, error)
            return None
        # as they were before they were read: what changed meanwhile is read at the next call
        self._seen, self._problem = stamps, ""
        log.info("%s was read again", self._what)
        return found

    async def read_forever(self, read: Callable[[], T], changed: Callable[[T], None]) -> None:
        """Read the files again whenever they have changed, on a thread, until cancelled.

        ``changed`` gets the result of ``read``, in the event loop.
        """
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                if (found := await asyncio.to_thread(self.read_again, read)) is not None:
                    changed(found)
            except Exception as error:  # a defect must not keep a revoked key
                log.error("%s cannot be read again", self._what, exc_info=error)

    def _stamps(self) -> list[tuple[int, ...] | None]:
        """Return values that change when a file or its permissions change; None where there is no file."""
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    # the last changes with the rights too
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class CertificateFiles(WatchedFiles):
    """The files of a certificate chain and its private key, in PEM, without a password.

    Attributes:
        expires_at_s: when the first certificate of the chain that was loaded last ends, in seconds since 1970; None if
            it cannot be told.
    """

    OPTIONS = "--tls-cert and --tls-key"
    expires_at_s: float | None = None

    def __init__(self, chain: Path, key: Path) -> None:
        super().__init__(f"the certificate of {self.OPTIONS}", chain, key)
        self.chain = chain
        self.key = key

    def load(self, context: ssl.SSLContext) -> None:
        """Have handshakes present the certificate.

        Raises:
            CannotListen: the files cannot be used.
        """
        try:
            # an empty password: the library would ask for one at the terminal
            context.load_cert_chain(self.chain, self.key, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:  # no file, or another key
            raise CannotListen(
                f"{self.chain} and {self.key} are no certificate and its key ({error.strerror or error}): name PEM "
                f"files that belong together with {self.OPTIONS}"
            ) from error
        self.expires_at_s = None
        with suppress(OSError, ValueError):  # OpenSSL takes more than this library reads
            chain = x509.load_pem_x509_certificates(self.chain.read_bytes())
            self.expires_at_s = min(certificate.not_valid_after_utc for certificate in chain).timestamp()

    def check(self) -> None:
        """Raise a ``CannotListen`` if the files cannot be used."""
        self.load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
