"""Grafana's dashboard: it names the variables, alerts and ages that there are."""

from __future__ import annotations

import re

import yaml

from service.registry.lives import Ages
from tests.support.prometheus import ALERTS, dashboard

PANELS = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
RULES = {rule["alert"]: rule for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}


def test_the_dashboard_is_what_grafana_reads() -> None:
    content = dashboard()
    assert content["schemaVersion"] >= 39
    ids = [panel["id"] for panel in content["panels"]]
    assert len(set(ids)) == len(ids)
    known = {variable["name"] for variable in content["templating"]["list"]} | {"__rate_interval", "__all"}
    assert set(re.findall(r"\$\{?(\w+)", str(content))) == known


def test_a_dashed_line_is_where_the_alerts_fire_that_the_panel_names() -> None:
    for panel in PANELS:
        if panel["type"] != "timeseries":
            continue
        named = re.findall(r"Hetsyn\w+", panel["description"])
        config = panel["fieldConfig"]["defaults"]
        assert bool(named) == ("thresholdsStyle" in config["custom"]), panel["title"]
        for alert in named:
            limit = float(RULES[alert]["expr"].rsplit(">", 1)[1])
            assert config["thresholds"]["steps"][-1]["value"] == limit, panel["title"]


def test_the_first_panel_shows_every_alert() -> None:
    first = min(PANELS, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))
    (pattern,) = re.findall(r'alertname=~"([^"]+)"', first["targets"][0]["expr"])
    assert [name for name in RULES if not re.fullmatch(pattern, name)] == []
    assert first["targets"][0]["instant"]  # not those of the past
    assert not first["targets"][0]["range"]


def test_ages_are_in_their_order() -> None:
    (targets,) = (panel["targets"] for panel in PANELS if panel["title"] == "Open sessions, by age")
    ages = [name for name, _ in Ages().by_name()]
    assert [target["legendFormat"] for target in targets] == ages
    assert [re.findall(r'age="([^"]+)"', target["expr"]) for target in targets] == [[age] for age in ages]
