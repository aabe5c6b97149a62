"""docs/operations.md has the figures of the kept results."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from benchmarks.capacity.report import tables
from benchmarks.capacity.sizing import PROXIES
from tests.support.paths import DOCS, ROOT


def result(name: str) -> Any:
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())


PAGE = (DOCS / "operations.md").read_text()
RESULTS = result("capacity")


@pytest.mark.parametrize("name", tables(RESULTS))
def test_a_part_of_the_page_is_what_the_results_say(name: str) -> None:
    (part,) = re.findall(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", PAGE, re.DOTALL)
    assert part == tables(RESULTS)[name]


def test_a_record_has_as_many_bytes_as_the_pages_say() -> None:
    size = RESULTS["costs"]["valkey_node"]["value"]["record_bytes"]
    assert f"| a record in a store | {size / 1e3:.1f} kB |" in PAGE
    assert f"| **{round(size, -2):,}** |" in (DOCS / "explanation/input-log.md").read_text()


def test_what_a_session_takes_is_what_its_benchmarks_measured() -> None:
    scaling = result("scaling")
    assert f"| {scaling['bytes_a_session'] / 1e3:.1f} kB | `python -m benchmarks scaling` |" in PAGE
    assert f"| {scaling['rows'][0]['resident_bytes'] / 1e6:.0f} MB with one worker |" in PAGE
    ways = result("way_in")["cases"]["speech-digits"]
    least = ", ".join(f"{ways[path]['least_us']:.0f}" for path in ("/infer", "/stream", "/streams"))
    assert f"| {least} µs, at 64 sessions | `python -m benchmarks way_in` |" in PAGE
    streams = result("transports")["models"]["speech-digits"]
    held = ", ".join(str(streams[way]["streams"]) for way in ("infer", "stream", "streams"))
    assert f"| {held} | `python -m benchmarks service --transports` |" in PAGE
    stores = result("durability")["stores"]
    chosen = ("memory", "file, synchronous=full", "Valkey, always")
    rates = ", ".join(f"{stores[name]['64']['chunks_per_s']:,.0f}" for name in chosen)
    assert f"| {rates} | `python -m benchmarks durability` |" in PAGE


def test_what_a_proxy_and_a_primary_take_follows_from_their_costs() -> None:
    costs = RESULTS["costs"]
    carried = float(f"{PROXIES / costs['proxy_s']['value']:.3g}")
    assert f"one carries {carried:,.0f} chunks a second" in PAGE.replace("\n", " ")
    node = costs["valkey_disk"]["value"]
    commands = float(f"{1 / (node['command_s'] + node['record_s']):.2g}")
    assert f"A primary takes {commands:,.0f} small commands a second" in PAGE
