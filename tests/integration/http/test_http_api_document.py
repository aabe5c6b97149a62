"""``docs/reference/http-api.md`` against the code: its table of errors, and its paths.

Its curl calls are sent by ``tests/e2e/pages/test_documents.py``.
"""

from __future__ import annotations

import re

from service.errors import KINDS
from service.models.catalog import ModelCatalog
from tests.support.paths import DOCS
from tests.support.product import make_app

DOCUMENT = (DOCS / "reference/http-api.md").read_text()


def test_the_table_of_errors_is_the_table() -> None:
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", DOCUMENT, re.MULTILINE))
    expected = {kind.code: str(kind.status) for kind in KINDS}
    assert {code: status for code, status in listed.items() if code != "internal"} == expected


def test_every_path_is_described(catalog: ModelCatalog) -> None:
    app = make_app(catalog)
    described = {
        (method, re.sub(r"\[.*", "", path)) for method, path in re.findall(r"^\| `([A-Z]+) (/\S+)` \|", DOCUMENT, re.M)
    }
    listed = {
        (method.upper(), re.sub(r"\{\w+_id\}", "{id}", path))
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    assert described == listed
