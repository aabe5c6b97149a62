"""The page on a server that asks for keys."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from service.keys.caller import Scope
from tests.support.clients.browser import browsing
from tests.support.servers.keyed import add_key
from tests.support.servers.server_process import RestartableServer

pytestmark = pytest.mark.process


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestartableServer]:
    add_key(tmp_path / "keys.json", "alice")
    server = RestartableServer("--keys", str(tmp_path / "keys.json"))
    server.ready()
    yield server
    server.stop()


def knows(url: str, key: str) -> bool:
    """Say whether a server takes a key."""
    return httpx.get(f"{url}/models", headers={"Authorization": f"Bearer {key}"}).status_code == HTTPStatus.OK


def test_people_give_their_key_once(server: RestartableServer, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "bob", [Scope.infer])  # the server reads it within a second
    with browsing() as page:
        page.appear()
        page.driver.get(f"{server.url}/")
        page.until("the question", lambda: not page.run("return document.getElementById('access').hidden"))
        assert "asks for a key" in page.text("alert")
        page.screenshot("key")
        page.element("key").send_keys("hunter2\n")
        page.until("the refusal", lambda: "This is no key" in page.text("alert"))
        page.run("document.getElementById('key').value = ''")
        page.until("the server to know the key", lambda: knows(server.url, key))
        page.element("key").send_keys(key + "\n")
        page.until("the models", lambda: "zero" in page.text("about"))
        assert page.run("return document.getElementById('access').hidden")
        page.element("recording").send_keys("seven")
        page.click("play")
        page.until("the word", lambda: page.words() == ["seven"])
        page.until("the end", lambda: not page.is_running())
        assert key not in page.run("return document.documentElement.outerHTML + location.href + document.cookie")
        page.driver.refresh()
        page.until("the models again", lambda: "zero" in page.text("about"))
        page.run("sessionStorage.clear()")
        page.driver.refresh()
        page.until("the question again", lambda: not page.run("return document.getElementById('access').hidden"))
        assert page.violations() == []  # the last, because it needs axe-core
