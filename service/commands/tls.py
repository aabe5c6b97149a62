"""The certificate of the HTTP port: read at the start, and again when its files change."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from service.errors import HetsynError

WATCH_S = 1.0

log = logging.getLogger("hetsyn.tls")


class Certificate:
    """A certificate chain and its private key.

    Args:
        chain: file in PEM.
        key: file in PEM, without a password.

    Attributes:
        context: that handshakes take; one with new files serves the handshakes from then on.

    Raises:
        HetsynError: the files cannot be used.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain, self._key = chain, key
        self._seen = self._stamps()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._load(self.context)
        self._watching: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Look at the files from time to time, as long as the event loop runs."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Read the files again if they have changed. Some that cannot be used leave the certificate as it is."""
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # a pair that does not fit would spoil the one in use
            self._load(self.context)
        except HetsynError as error:
            log.error("the certificate stays as it was: %s", error)
        else:
            log.info("new certificate of %s", self._chain)

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            # an empty password: the library would ask for one at the terminal
            context.load_cert_chain(self._chain, self._key, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:  # such as: no file, another key
            raise HetsynError(
                f"{self._chain} and {self._key} are no certificate and its key ({error.strerror or error}): name PEM "
                "files that belong together with --tls-cert and --tls-key"
            ) from error

    def _stamps(self) -> tuple[object, ...]:
        stamps: list[object] = []
        for path in (self._chain, self._key):
            try:
                status = path.stat()
            except OSError:
                stamps.append(None)
            else:
                stamps.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(stamps)
