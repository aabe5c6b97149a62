"""The page at ``/``: its files, and what its headers let a browser do."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from setuptools.dist import Distribution

from service.api.routes.page import HEADERS
from tests.support.paths import RECORDINGS, ROOT

PAGE = "http://server/"
FOLDER = ROOT / "service/page"
NAMES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())


async def loaded(client: httpx.AsyncClient, link: str, page: str = PAGE) -> httpx.Response:
    """What the page loads from an address of its own server."""
    address = urlsplit(urljoin(page, link))
    assert address.netloc == "server", link
    response = await client.get(address.path)
    assert response.status_code == 200, link
    return response


async def test_the_page_and_its_scripts_load_files_of_this_server_alone(client: httpx.AsyncClient) -> None:
    page = await loaded(client, PAGE)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    links = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(links) == page.text.count("src=") + page.text.count("href=") == 5
    for link in links:
        await loaded(client, link)
    waiting, seen = {"page/app.js"}, set[str]()
    while waiting:
        link = waiting.pop()
        seen.add(link)
        script = await loaded(client, link)
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        imported = re.findall(r'^import .* from "(.*)";$', script.text, re.MULTILINE)
        assert len(imported) == len(re.findall(r"\bimport\b(?!\.meta)", script.text)), link
        loads = [*imported, *re.findall(r'new URL\("([^"]*)", import\.meta\.url\)', script.text)]
        waiting |= {urlsplit(urljoin(PAGE + link, name)).path.lstrip("/") for name in loads} - seen
    assert seen == {f"page/{name}" for name in NAMES if name.endswith(".js")}
    foreign = [name for name in NAMES if name.endswith((".js", ".css", ".html"))]
    for name in foreign:
        assert not re.findall(r"(?:https?:)?//(?!localhost)[\w-]+\.\w+", (FOLDER / name).read_text()), name
    assert "@import" not in (FOLDER / "style.css").read_text()
    assert "url(" not in (FOLDER / "style.css").read_text()


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/recordings/seven.wav"])
async def test_the_headers_allow_nothing_foreign_and_nothing_inline(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    policy = dict(
        directive.strip().partition(" ")[::2] for directive in response.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert {source for sources in policy.values() for source in sources.split()} == {"'none'", "'self'"}
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "microphone=(self)" in response.headers["permissions-policy"]
    if path == "/":
        assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=|javascript:", response.text)


async def test_a_file_is_sent_again_only_if_it_has_changed(client: httpx.AsyncClient) -> None:
    first = await client.get("/page/style.css")
    assert first.headers["cache-control"] == "no-cache"
    same = await client.get("/page/style.css", headers={"If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
    other = await client.get("/page/style.css", headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)
    head = await client.head("/page/style.css")
    assert (head.status_code, head.headers["etag"]) == (200, first.headers["etag"])
    assert set(HEADERS) <= {name.title().replace("Etag", "ETag") for name in head.headers}


@pytest.mark.parametrize("path", ["/page/", "/page/nothing.js", "/page/../settings.py", "/page/%2e%2e/settings.py"])
async def test_the_server_has_no_other_files(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_the_recordings_are_those_that_the_page_offers(client: httpx.AsyncClient) -> None:
    offered = re.findall(r"<option>(\w+)</option>", (await client.get("/")).text)
    assert sorted(offered) == sorted(path.stem for path in (FOLDER / "recordings").glob("*.wav"))
    digits = (FOLDER / "app.js").read_text().partition("DIGITS = [")[2].partition("]")[0]
    assert re.findall(r'"(\w+)"', digits) == offered
    for word in offered:
        response = await client.get(f"/page/recordings/{word}.wav")
        assert response.headers["content-type"] == "audio/wav"
        assert response.content == (RECORDINGS / f"{word}.wav").read_bytes()


def test_the_files_are_in_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.parse_config_files([str(ROOT / "pyproject.toml")])
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    (found,) = (files for package, _, _, files in command.data_files if package == "service")
    assert sorted(Path(name).as_posix().removeprefix("page/") for name in found if name.startswith("page/")) == NAMES
