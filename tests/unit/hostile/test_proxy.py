"""The proxy's configuration with servers of this machine."""

from __future__ import annotations

import re

import pytest

from tests.long.hostile.proxy import configuration
from tests.support.paths import ROOT

SHIPPED = (ROOT / "docker/haproxy.cfg").read_text()


def test_servers_of_this_machine_replace_those_of_docker() -> None:
    text = configuration(SHIPPED, 8_123, [9_001, 9_002], {})
    assert "bind 127.0.0.1:8123" in text
    assert "    server api0 127.0.0.1:9001\n    server api1 127.0.0.1:9002\n" in text
    assert not any(word in text for word in ("server-template", "\nresolvers", "8404", ":800"))
    kept = [line for line in SHIPPED.splitlines() if line.strip().startswith(("http-request", "retry-on", "timeout c"))]
    metrics_frontend = SHIPPED[SHIPPED.index("frontend metrics") :]
    assert all(line in text for line in kept if line not in metrics_frontend)


def test_what_is_to_be_replaced_has_to_be_there() -> None:
    assert "timeout server 1s" in configuration(SHIPPED, 1, [], {r"timeout server \S+": "timeout server 1s"})
    with pytest.raises(ValueError, match="has no 'timeout server 7s'"):
        configuration(SHIPPED, 1, [], {"timeout server 7s": ""})
    with pytest.raises(ValueError, match="no line server-template"):
        configuration("listen api\n    bind :8000\n", 1, [], {})


def test_the_log_has_no_query() -> None:
    assert "option httplog" not in SHIPPED
    formats = [line for line in SHIPPED.splitlines() if line.strip().startswith("log-format")]
    assert len(formats) == 1
    assert not {"r", "HU", "HPO", "HP", "HQ", "trl", "hrl"} & set(re.findall(r"%([A-Za-z]+)", formats[0]))
    assert formats[0].endswith('%HM %{+Q}[var(txn.logged)]"')
