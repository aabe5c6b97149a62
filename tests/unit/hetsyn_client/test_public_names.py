"""Every public name of the client has an example. ``tests/e2e/test_documents.py`` runs them against a server."""

from __future__ import annotations

import re

import pytest

import hetsyn_client
from hetsyn_client import AsyncSession, AsyncStreamingClient, Session, StreamingClient
from tests.support.documents import blocks, prose
from tests.support.paths import DOCS

PAGE = DOCS / "reference/client.md"
ELSEWHERE = {"LiveStream": "stream-api.md", "LiveStreams": "streams-api.md"}


def code(page: str) -> str:
    return "\n".join(block.code for block in blocks(DOCS / "reference" / page) if block.language == "python")


@pytest.mark.parametrize("name", hetsyn_client.__all__)
def test_a_public_name_has_an_example_and_a_docstring(name: str) -> None:
    assert re.search(rf"\b{name}\b", code(ELSEWHERE.get(name, PAGE.name)))
    assert re.search(rf"\b{name}\b", prose(PAGE))
    assert (getattr(hetsyn_client, name).__doc__ or "").strip()


@pytest.mark.parametrize("kind", [StreamingClient, Session])
def test_a_method_has_an_example(kind: type) -> None:
    for name in vars(kind):
        if not name.startswith("_"):
            assert re.search(rf"\.{name}\b", code(PAGE.name) + prose(PAGE)), name
            assert getattr(kind, name).__doc__, name


@pytest.mark.parametrize(("kind", "twin"), [(StreamingClient, AsyncStreamingClient), (Session, AsyncSession)])
def test_both_clients_have_the_same_names(kind: type, twin: type) -> None:
    assert [name for name in vars(kind) if not name.startswith("_")] == [
        name for name in vars(twin) if not name.startswith("_")
    ]


def test_a_name_that_does_not_exist_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        hetsyn_client.Nothing  # noqa: B018
