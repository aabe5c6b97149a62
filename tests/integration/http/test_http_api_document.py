"""``docs/reference/http-api.md`` against the code: its curl calls are sent, its table of errors is the table."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest

from service.carried.carry_keys import CarryKeys
from service.errors import KINDS
from service.models.catalog import ModelCatalog
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.default import with_default
from tests.support.artifacts.fake_graph import load_fake
from tests.support.clients.wire import wire_transport
from tests.support.data.signals import sound
from tests.support.data.wav import wav
from tests.support.paths import DOCS
from tests.support.product import make_app
from tests.support.repository.documents import blocks, commands

PAGE = DOCS / "reference" / "http-api.md"
DOCUMENT = PAGE.read_text()
CALLS = [call for block in blocks(PAGE) if block.language == "sh" for call in commands(block.code) if "curl" in call]
FILES = {"@docs/recordings/seven.wav": wav(sound(2000).tobytes()), "@chunk.raw": sound(800).tobytes()}


def test_the_table_of_errors_is_the_table() -> None:
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", DOCUMENT, re.MULTILINE))
    expected = {kind.slug: str(kind.status) for kind in KINDS}
    assert {slug: status for slug, status in listed.items() if slug != "internal"} == expected


def test_there_are_calls_of_every_kind() -> None:
    assert len(CALLS) == 10


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
async def test_the_calls_work(tmp_path: Path, call: str) -> None:
    write_artifact(tmp_path, "digits")
    write_artifact(tmp_path, "sensor", takes="rows")
    catalog = ModelCatalog(with_default(tmp_path, "digits"), load=load_fake)
    printed, _, curl = call.replace("\\\n", "").rpartition("|\n")
    words = shlex.split(curl or call)
    options = dict(zip(words[2::2], words[3::2], strict=True))
    data = options.get("--data-binary") or options["-d"]
    if data == "@-":
        content = shlex.split(printed)[1].encode().decode("unicode_escape").encode("latin-1")
    else:
        content = FILES.get(data, data.encode())
    # the fake model has fewer channels than the document's
    content = re.sub(rb"\b(17|204)\b", b"1", content).replace(b"\x11\0", b"\x01\0")

    app = make_app(catalog, keys=CarryKeys([bytes(32)]))
    async with httpx.AsyncClient(transport=wire_transport(app)) as client:
        if b'"end": true}' in content:
            await client.post(
                "http://server/infer?session=events&seq=0", content=bytes(80), headers={"Content-Type": PCM}
            )
        name, _, value = options["-H"].partition(": ")
        response = await client.post(f"http://{words[1]}", content=content, headers={name: value})
    assert response.status_code == 200, response.text
    assert "probabilities" in json.loads(response.content)


PCM = "audio/pcm;encoding=pcm_s16le;rate=8000"


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
