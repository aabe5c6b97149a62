from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hetsyn_client.errors import InputError
from hetsyn_client.loadtest.commands import bench

URL = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--ramp", "--closed", "3"], "--ramp and --closed cannot be used together"),
        (["--streams", "3", "--ramp"], "--streams and --ramp cannot be used together"),
        (["--expected-interval-ms", "5"], "give --closed too"),
        (["--html", "no/such/folder/x.html"], "make it first"),
        (["--streams", "0"], "--streams"),
        (["--recordings", "no/such/file"], "--recordings"),
    ],
)
def test_options_that_make_no_sense_are_explained(arguments: list[str], advice: str) -> None:
    result = CliRunner().invoke(bench, [URL, *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert advice in result.output


def test_an_address_without_a_scheme_is_explained() -> None:
    result = CliRunner().invoke(bench, ["localhost:8000"])
    assert isinstance(result.exception, InputError)


def test_no_report_is_left_when_there_is_no_server(tmp_path: Path) -> None:
    result = CliRunner().invoke(bench, [URL, "--json", str(tmp_path / "x.json")])
    assert result.exit_code == 1
    assert "is 'hetsyn serve' running there" in str(result.exception)
    assert list(tmp_path.iterdir()) == []
