"""Grafana's dashboard: panels that it draws, and that an operator can read also when nothing happens."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from service.registry.lives import Ages
from tests.support.prometheus import ALERTS, dashboard

PANELS = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
GRAPHS = [panel for panel in PANELS if panel["type"] == "timeseries"]
STATS = [panel for panel in PANELS if panel["type"] == "stat"]
RULES = {rule["alert"]: rule for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}
UNITS = {"none", "short", "s", "percentunit", "bytes", "binBps"}
HEIGHT_OF_A_TREND = 5  # rows; a narrow stat that is lower shows its number alone

Panel = dict[str, Any]


def title(panel: Panel) -> str:
    return str(panel["title"])


def queries_of(panel: Panel) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def titled(text: str) -> Panel:
    panel: Panel
    (panel,) = [panel for panel in PANELS if panel["title"] == text]
    return panel


def test_the_dashboard_is_what_grafana_reads() -> None:
    content = dashboard()
    assert content["schemaVersion"] >= 39
    ids = [panel["id"] for panel in content["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in content["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    known = {variable["name"] for variable in content["templating"]["list"]} | {"__rate_interval", "__all"}
    assert set(re.findall(r"\$\{?(\w+)", str(content))) == known


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_every_panel_is_of_a_kind_and_a_unit_that_grafana_knows(panel: Panel) -> None:
    assert panel["type"] in ("timeseries", "stat")
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs) > 0


def test_titles_are_unique() -> None:
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("panel", GRAPHS, ids=title)
def test_a_legend_has_all_that_its_schema_requires(panel: Panel) -> None:
    assert {"calcs", "displayMode", "placement", "showLegend"} == set(panel["options"]["legend"])


@pytest.mark.parametrize(
    "panel", [panel for panel in GRAPHS if panel["fieldConfig"]["defaults"]["unit"] != "s"], ids=title
)
def test_the_axis_of_what_stays_0_does_not_go_to_100(panel: Panel) -> None:
    config = panel["fieldConfig"]["defaults"]
    only_what_happened = all(query.rstrip(")").endswith("> 0") for query in queries_of(panel))
    assert "max" in config or "axisSoftMax" in config["custom"] or (only_what_happened and config["noValue"])


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_numbers_do_not_depend_on_the_range_of_time_that_is_shown(panel: Panel) -> None:
    for query in queries_of(panel):
        assert not re.search(r"increase\([^()]*\$__rate_interval", query)


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_errors_that_did_not_happen_are_not_among_the_most_frequent(panel: Panel) -> None:
    for query in queries_of(panel):
        assert "topk" not in query or query.endswith("> 0)")


@pytest.mark.parametrize("panel", STATS, ids=title)
def test_an_idle_server_does_not_show_the_number_of_its_last_load(panel: Panel) -> None:
    if any("histogram_quantile" in query or " / " in query for query in queries_of(panel)):
        (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
        assert mapping["options"]["match"] == "null+nan"
        assert mapping["options"]["result"]["text"] == "idle"
        assert panel["options"]["reduceOptions"]["calcs"] == ["last"]  # lastNotNull passes over NaN


@pytest.mark.parametrize("panel", STATS, ids=title)
def test_a_number_has_the_room_for_its_trend(panel: Panel) -> None:
    assert panel["options"]["graphMode"] == "none" or panel["gridPos"]["h"] >= HEIGHT_OF_A_TREND


@pytest.mark.parametrize("panel", GRAPHS, ids=title)
def test_a_dashed_line_is_where_the_alerts_fire_that_the_panel_names(panel: Panel) -> None:
    named = re.findall(r"Hetsyn\w+", panel["description"])
    config = panel["fieldConfig"]["defaults"]
    assert bool(named) == ("thresholdsStyle" in config["custom"])
    for alert in named:
        limit = float(RULES[alert]["expr"].rsplit(">", 1)[1])
        assert config["thresholds"]["steps"][-1]["value"] == limit


def test_the_first_panel_shows_every_alert() -> None:
    first = min(PANELS, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))
    (pattern,) = re.findall(r'alertname=~"([^"]+)"', queries_of(first)[0])
    assert [name for name in RULES if not re.fullmatch(pattern, name)] == []
    assert first["targets"][0]["instant"]  # not those of the past
    assert not first["targets"][0]["range"]


def test_ages_are_in_their_order() -> None:
    targets = titled("Open sessions, by age")["targets"]
    ages = [name for name, _ in Ages().by_name()]
    assert [target["legendFormat"] for target in targets] == ages
    assert [re.findall(r'age="([^"]+)"', target["expr"]) for target in targets] == [[age] for age in ages]
