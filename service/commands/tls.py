"""The certificate of the HTTP port: read at the start, and again when its files change."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from service.keys.watched_files import CertificateFiles


class Certificate:
    """A certificate chain and its private key, in PEM, without a password.

    Attributes:
        context: the TLS context; after a change of the files, new handshakes use them.
        files: say when it expires.

    Raises:
        HetsynError: the files cannot be used.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self.files = CertificateFiles(chain, key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.files.load(self.context)
        self._watching: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Read the files again when they change, as long as the event loop runs."""
        watching = self.files.read_forever(self._read, lambda _: None)
        self._watching = asyncio.get_running_loop().create_task(watching)

    def _read(self) -> None:
        self.files.check()  # loading a pair that does not fit would spoil the one in use
        self.files.load(self.context)
