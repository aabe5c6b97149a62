"""A Prometheus that scrapes servers of a test, with the alerts that we ship."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.paths import ROOT
from tests.support.servers.server_process import free_port
from tests.support.tools import NO_PROMETHEUS, PROMETHEUS

ALERTS = ROOT / "docker/alerts.yml"
DASHBOARD = ROOT / "docker/grafana/dashboards/hetsyn.json"
SCRAPE = "500ms"  # a scrape may take as long
WINDOW = "10s"  # in place of $__rate_interval
START_S = 60.0


def dashboard() -> dict[str, Any]:
    """Grafana's dashboard as JSON values."""
    content: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return content


def queries() -> dict[str, str]:
    """Each query of the dashboard by its panel, with the variables as Grafana sets them for all servers and models.

    What is shown only once it has happened is asked for with its zeros.
    """
    found = {}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", WINDOW).replace(" > 0", " >= 0")
            found[f"{panel['title']} {target['refId']}"] = query.replace("$instance", ".*").replace("$model", ".*")
    return found


class Prometheus:
    """A running one."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **query: Any) -> Any:
        response = self._client.get(f"/api/v1/{path}", params=query)
        body = response.json()
        assert body["status"] == "success", body
        return body["data"]

    def values(self, query: str) -> list[float]:
        """The numbers that a query returns now; one that is no number is none."""
        numbers = [float(row["value"][1]) for row in self.get("query", query=query)["result"]]
        return [number for number in numbers if isfinite(number)]


@contextmanager
def scraping(folder: Path, addresses: Sequence[str]) -> Iterator[Prometheus]:
    """A Prometheus that scrapes servers, ``HOST:PORT``."""
    if PROMETHEUS is None:
        pytest.skip(NO_PROMETHEUS)
    config = {
        "global": {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [{"job_name": "api", "static_configs": [{"targets": list(addresses)}]}],
    }
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(config))  # which is YAML too
    address = f"127.0.0.1:{free_port()}"
    command = [PROMETHEUS, f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}"]
    log = (folder / "prometheus.log").open("w")
    process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + START_S
        while not _is_ready(address):
            assert process.poll() is None, (folder / "prometheus.log").read_text()[-2000:]
            assert time.monotonic() < deadline_s, "Prometheus did not start"
            time.sleep(0.05)
        with httpx.Client(base_url=f"http://{address}", timeout=60) as client:
            yield Prometheus(client)
    finally:
        process.terminate()
        process.wait()
        log.close()


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/-/ready").status_code == 200
    except httpx.TransportError:
        return False
