"""Which pages may use the server: its own, and those of ``--cors-origin``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from service.errors import OriginRefused, UnsupportedInput

# a browser sends these for a page of any origin, without asking the server before
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")


def check_origin(origin: str, host: str, cors_origins: Collection[str]) -> None:
    """Check the origin of the page that sends a request; empty if none does.

    Raises:
        OriginRefused: it is neither the server's own nor in ``cors_origins``.
    """
    if origin and _host_of(origin) != host.lower() and origin.lower() not in map(str.lower, cors_origins):
        raise OriginRefused(
            "a page of another origin may not do this: serve the page from this host and port, or start the server "
            "with --cors-origin"
        )


def check_sender(fields: Mapping[bytes, bytes], cors_origins: Collection[str]) -> None:
    """Check that the headers of a request are none that a page of another origin could send unasked.

    Raises:
        OriginRefused: as ``check_origin``.
        UnsupportedInput: the body is a form's. A missing type is accepted: Triton's clients send none.
    """
    host = fields.get(b"host", b"").decode("latin-1")
    check_origin(fields.get(b"origin", b"").decode("latin-1"), host, cors_origins)
    content_type = fields.get(b"content-type", b"").decode("latin-1")
    if content_type.partition(";")[0].strip().lower() in FORM_TYPES:
        raise UnsupportedInput(
            f"content type {content_type[:64]!r} is a form's: send application/json, or application/octet-stream with "
            "binary tensors"
        )


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # http://[ raises it
        return None
