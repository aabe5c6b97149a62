"""The dashboard and the alerts: every query names what servers have, and returns data when Prometheus scrapes them."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from hetsyn_client import StreamingClient
from hetsyn_client.errors import HetsynError
from tests.support.artifacts.artifact import write_artifact
from tests.support.clients.json_input import events
from tests.support.data.signals import sound
from tests.support.repository.prometheus import ALERTS, Prometheus, dashboard, queries, scraping
from tests.support.servers.socket_server import serving_models

PATIENCE_S = 120.0
_names = re.compile(r"\b(?:hetsyn|process)_[a-z_]+").findall


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """A server with a store, and one without that has hardly any room for sessions."""
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder)
    with ExitStack() as stack:
        yield [
            stack.enter_context(serving_models(folder, "store", sweep_interval_s=0.1)),
            stack.enter_context(serving_models(folder, max_sessions=3, first_chunk_idle_s=0.1)),
        ]


def load(url: str) -> None:
    """Some of everything that clients do."""
    with StreamingClient(url) as client, client.session() as session:
        for _ in range(3):
            session.send(sound(800), 8_000)
    begin_sessions(url)


def begin_sessions(url: str) -> None:
    """Begin sessions that nobody goes on with, some of them one after the other, and send what is refused."""
    with httpx.Client(base_url=url, timeout=60) as http:
        for number in range(4):
            http.post("/infer", json={"session": secrets.token_hex(8), "seq": 0, "input": events(3, number)})
        http.post("/infer", json={"session": "refused", "seq": 9, "input": events(3)})
        tensor = {"name": "audio", "datatype": "INT16", "shape": [800], "data": [0] * 800}
        http.post("/v2/models/digits/infer", json={"inputs": [tensor]})


@pytest.fixture(scope="module")
def prometheus(urls: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that scrapes the servers while they are under load."""
    ends = threading.Event()

    def work(act: Callable[[str], None], url: str) -> None:
        while not ends.wait(0.05):
            with suppress(httpx.TransportError, HetsynError):  # a machine that is busy
                act(url)

    addresses = [url.removeprefix("http://") for url in urls]
    with scraping(tmp_path_factory.mktemp("prometheus"), addresses) as running:
        threads = [threading.Thread(target=work, args=one) for one in zip((load, begin_sessions), urls, strict=True)]
        for thread in threads:
            thread.start()
        try:
            yield running
        finally:
            ends.set()
            for thread in threads:
                thread.join()


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.1)


@pytest.mark.process
def test_every_query_of_the_dashboard_returns_data(prometheus: Prometheus) -> None:
    empty = queries()

    def look() -> bool:
        for name in [name for name, query in empty.items() if prometheus.values(query)]:
            del empty[name]
        return not empty

    until(look)
    assert not empty


@pytest.mark.process
def test_prometheus_takes_every_alert(prometheus: Prometheus) -> None:
    until(lambda: all(rule["health"] != "unknown" for rule in rules_of(prometheus)))
    found = rules_of(prometheus)
    assert {rule["name"] for rule in found} == {rule["alert"] for rule in shipped_rules()}
    assert {rule["health"] for rule in found} == {"ok"}


@pytest.mark.process
def test_an_alert_fires_when_clients_lose_sessions(prometheus: Prometheus) -> None:
    query = 'ALERTS{alertname="HetsynSessionsLost",reason="limit",alertstate="firing"}'
    until(lambda: prometheus.values(query))
    assert prometheus.values(query) == [1.0]


def test_every_metric_that_is_asked_for_exists(urls: list[str]) -> None:
    load(urls[0])
    text = httpx.get(f"{urls[0]}/metrics").text
    families = list(text_string_to_metric_families(text))  # some have no sample, as without TLS
    exposed = {sample.name for family in families for sample in family.samples} | {family.name for family in families}
    asked = {name for query in queries().values() for name in _names(query)}
    asked |= {name for rule in shipped_rules() for name in _names(rule["expr"])}
    for variable in dashboard()["templating"]["list"]:
        asked |= set(_names(variable.get("definition", "")))
    assert asked - exposed == set()


def shipped_rules() -> list[dict[str, str]]:
    rules: list[dict[str, str]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    return rules


def rules_of(prometheus: Prometheus) -> list[dict[str, str]]:
    return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
