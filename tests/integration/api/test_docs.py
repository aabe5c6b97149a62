"""The page ``/docs`` shows the interface without any other host."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

import httpx

PAGE = "http://server/docs"


async def fetch(client: httpx.AsyncClient, address: str) -> httpx.Response:
    """What the page loads from an address of its own server."""
    assert urlsplit(address).netloc == urlsplit(PAGE).netloc, address
    response = await client.get(urlsplit(address).path)
    assert response.status_code == 200, address
    return response


async def test_the_page_refers_to_nothing_outside(client: httpx.AsyncClient) -> None:
    page = await fetch(client, PAGE)
    assert page.headers["content-type"].startswith("text/html")
    links = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(links) == page.text.count("src=") + page.text.count("href=") == 4
    files = {link: await fetch(client, urljoin(PAGE, link)) for link in links}
    styles = files["docs/files/swagger-ui.css"].text
    assert re.findall(r"@import|url\((?![\"']?(?:data:|#))[^)]*\)", styles) == []
    assert "SwaggerUIBundle" in files["docs/files/swagger-ui-bundle.js"].text
    (described,) = re.findall(r'url: "([^"]*)"', files["docs/start.js"].text)
    assert "/infer" in (await fetch(client, urljoin(PAGE, described))).json()["paths"]


async def test_the_browser_is_told_to_load_nothing_from_outside(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    policy = dict(
        directive.strip().partition(" ")[::2] for directive in page.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    for sources in policy.values():
        assert set(sources.split()) <= {"'none'", "'self'", "data:"}
    assert not re.search(r"<script(?! src=)|<style| style=| on\w+=", page.text)


async def test_pages_that_load_from_a_cdn_are_off(client: httpx.AsyncClient) -> None:
    assert (await client.get("/redoc")).status_code == 404
