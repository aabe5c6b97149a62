"""Grafana's dashboard: it names the variables, alerts and ages that there are."""

from __future__ import annotations

import re

from tests.support.repository.prometheus import dashboard


def test_the_dashboard_is_what_grafana_reads() -> None:
    content = dashboard()
    assert content["schemaVersion"] >= 39
    ids = [panel["id"] for panel in content["panels"]]
    assert len(set(ids)) == len(ids)
    known = {variable["name"] for variable in content["templating"]["list"]} | {"__rate_interval", "__all"}
    assert set(re.findall(r"\$\{?(\w+)", str(content))) == known
