"""Serves ``/``: the page on which people speak and watch the spikes. Nothing builds its files, in ``service/page``.

The browser may load nothing from elsewhere and run no script that is not a file of this server. It asks for each file
again, and gets it only if it has changed.
"""

from __future__ import annotations

import mimetypes
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import FastAPI, Request, Response

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-cache",
}
INDEX = "index.html"
# media types; the machine's own table may differ
MEDIA_TYPES = mimetypes.MimeTypes()
MEDIA_TYPES.add_type("text/javascript", ".js")
MEDIA_TYPES.add_type("audio/wav", ".wav")


def install(app: FastAPI) -> None:
    """Add the page to an application. Its files are read once."""
    root = files("service") / "page"
    for path, file in _found(root):
        address = "/" if path == INDEX else f"/page/{path}"
        content = file.read_bytes()
        if path == INDEX or not path.endswith((".html", ".md")):
            _add(app, address, content, MEDIA_TYPES.guess_type(path)[0] or "application/octet-stream")


def _add(app: FastAPI, address: str, content: bytes, media_type: str) -> None:
    headers = HEADERS | {"ETag": f'"{sha256(content).hexdigest()[:32]}"'}

    @app.head(address, include_in_schema=False)
    @app.get(address, include_in_schema=False)
    async def file(request: Request) -> Response:
        if headers["ETag"] in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)


def _found(folder: Traversable, prefix: str = "") -> list[tuple[str, Traversable]]:
    """List the files of a folder and its subfolders, by their paths."""
    found = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            found += _found(entry, f"{prefix}{entry.name}/")
        else:
            found.append((f"{prefix}{entry.name}", entry))
    return found
