"""The certificate of the gRPC port: read at the start, and again when its files change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from service.errors import CannotListen
from service.keys.watched_files import CertificateFiles


def credentials_of(chain: Path, key: Path) -> Any:
    """Make a port's credentials. Each handshake checks whether the files have changed, on a thread of the library.

    Raises:
        CannotListen: the files cannot be used.
    """
    files = CertificateFiles(chain, key)

    def read() -> Any:
        files.check()  # the library would only say that it cannot listen
        try:
            pair = key.read_bytes(), chain.read_bytes()
        except OSError as error:
            raise CannotListen(f"{error.filename}: {error.strerror}: name a file that the server may read") from error
        return grpc.ssl_server_certificate_configuration([pair])

    return grpc.dynamic_ssl_server_credentials(read(), lambda: files.read_again(read))
