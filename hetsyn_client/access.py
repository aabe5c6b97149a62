"""The access to a server: address, headers, key, and the file of a certificate authority."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

from hetsyn_client.errors import InputError

TIMEOUT_S, REPEATS, PATIENCE_S = 30.0, 5, 60.0  # defaults of ``ClientOptions``
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2


class ClientOptions(TypedDict, total=False):
    """The options of a client.

    Attributes:
        headers: headers of every request, such as ``{"X-Api-Key": "..."}``.
        key: sent as ``Authorization: Bearer KEY``.
        ca_file: certificates to trust in place of the usual ones, PEM.
        timeout_s: time limit for an answer of the server; by default 30.
        repeats: how often in a row a numbered chunk is sent again, or a WebSocket reopened: when the connection breaks,
            on 502, 503 and 504, and on 429 with Retry-After; not where Retry-After is more than half a minute. By
            default 5; 0 for never.
        patience_s: least time of these tries after the server has answered a chunk; by default 60.
    """

    headers: Mapping[str, str] | None
    key: str | None
    ca_file: str | Path | None
    timeout_s: float
    repeats: int
    patience_s: float


@dataclass(frozen=True)
class Access:
    """The checked access to a server.

    Attributes:
        url: without a slash at its end.
        headers: headers of every request; not in ``repr``, because they may have a key.
        tls: trusts the file of a certificate authority; None for the usual ones.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    tls: ssl.SSLContext | None = None

    @classmethod
    def checked(
        cls,
        url: str,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        ca_file: str | Path | None = None,
    ) -> Access:
        """Check the access to a server. Arguments as in ``ClientOptions``.

        Raises:
            InputError: one of them cannot be used.
        """
        if not _is_address(url):
            raise InputError(f"{url!r} is not the address of a server: write http://HOST:PORT")
        sent = dict(headers or {})
        if key is not None:
            if not key or key != key.strip():  # the message must not repeat the key
                raise InputError("the key is empty or has a space at an end: give it as hetsyn keys has shown it")
            if any(name.lower() == "authorization" for name in sent):
                raise InputError("there are a key and a header Authorization: give one of them")
            sent["Authorization"] = f"Bearer {key}"
        for name, value in sent.items():
            if not _NAME.fullmatch(name) or not (value.isascii() and value.isprintable()) or value != value.strip():
                raise InputError(f"the header {name!r} has characters that HTTP does not take: give ASCII, one line")
        tls = None
        if ca_file is not None:
            try:
                tls = ssl.create_default_context(cafile=ca_file)
            except (OSError, ssl.SSLError) as error:
                raise InputError(
                    f"{ca_file}: no certificates ({error}): give a PEM file of the certificate authority"
                ) from error
        return cls(url.rstrip("/"), sent, tls)


def access_of(url: str, options: ClientOptions) -> Access:
    """Check the access to a server; errors as ``Access.checked``."""
    return Access.checked(url, options.get("headers"), options.get("key"), options.get("ca_file"))


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        return parts.scheme in ("http", "https") and bool(host) and parts.port != 0 and url.isprintable()
    except ValueError:  # the port is no number, or the host no name
        return False
