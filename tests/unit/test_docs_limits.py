"""The table of limits is complete, and has the defaults."""

from __future__ import annotations

import re
from dataclasses import Field, fields
from typing import Any

import pytest

from service.settings import Limits, Retention
from tests.support.paths import DOCS

PAGE = (DOCS / "reference" / "commands.md").read_text()
ROWS = dict(re.findall(r"^\| `--([a-z-]+)` \| ([^|]*) \| [^|]+ \| [^|]* ?\|$", PAGE, re.MULTILINE))
OPTIONS = [field for field in (*fields(Limits), *fields(Retention)) if "option" in field.metadata]
MIB = 1024 * 1024


def as_written(option: Field[Any]) -> str:
    value: Any = option.default
    if option.name.endswith("_bytes"):
        return f"{value // MIB} MiB" if value % MIB == 0 else f"{value:,}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_limit_is_in_the_table_with_its_default(option: Field[Any]) -> None:
    assert ROWS[option.name.replace("_", "-")].strip() == as_written(option)


def test_the_table_has_no_other_limits() -> None:
    assert set(ROWS) == {option.name.replace("_", "-") for option in OPTIONS}
