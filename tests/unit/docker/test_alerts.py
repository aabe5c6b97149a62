"""The alerts: Prometheus takes the rules, and each fires when it should and not in a case near to it."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import yaml

from tests.long.hostile.proxy import configuration
from tests.support.paths import ROOT
from tests.support.repository.prometheus import ALERTS
from tests.support.servers.server_process import START_TIMEOUT_S, free_port
from tests.support.tools import NO_HAPROXY, NO_PROMETHEUS, PROMTOOL

CASES = Path(__file__).with_name("alerts.yml")
NAMES = [rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.process
@pytest.mark.parametrize("arguments", [("check", "rules", ALERTS), ("test", "rules", CASES)], ids=["check", "test"])
def test_promtool(arguments: tuple[str, str, Path]) -> None:
    if PROMTOOL is None:
        pytest.skip(NO_PROMETHEUS)
    run = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    cases = yaml.safe_load(CASES.read_text())["tests"]
    expected = [rule["exp_alerts"] for case in cases for rule in case["alert_rule_test"] if rule["alertname"] == name]
    assert any(expected)
    assert not all(expected)


@pytest.mark.process
def test_the_proxy_exports_what_the_alerts_ask_of_it(tmp_path: Path) -> None:
    if (program := shutil.which("haproxy")) is None:
        pytest.skip(NO_HAPROXY)
    shipped = (ROOT / "docker/haproxy.cfg").read_text()
    (exporter,) = re.findall(r"^frontend metrics\n(?:[ #].*\n|\n)*", shipped, re.MULTILINE)
    port, proxy_port = free_port(), free_port()
    file = tmp_path / "haproxy.cfg"
    exporter = re.sub(r"bind .*:8404\"?", f"bind 127.0.0.1:{port}", exporter)
    file.write_text(configuration(shipped, proxy_port, [free_port()], {}) + exporter)
    process = subprocess.Popen([program, "-db", "-f", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline_s, text = time.monotonic() + START_TIMEOUT_S, ""
        while not text:
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            with suppress(httpx.TransportError):
                assert httpx.get(f"http://127.0.0.1:{proxy_port}/infer").status_code == 503  # no server is there
                text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    finally:
        process.terminate()
        process.wait()
    asked = set(re.findall(r"\bhaproxy_\w+(?:\{[^}]*\})?", ALERTS.read_text()))
    assert len(asked) >= 3
    for series in asked:
        name, _, labels = series.rstrip("}").partition("{")
        wanted = labels.replace(", ", ",")
        assert re.search(rf"^{name}\{{{wanted}[,}}].* ", text, re.MULTILINE), series
    assert re.search(r'^haproxy_frontend_http_responses_total\{proxy="api",code="5xx"\} [1-9]', text, re.MULTILINE)
