from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from service.commands.options import REMOVED, parse_size, settings_of
from service.commands.serve import serve
from service.settings import AccessSettings, Limits, Settings
from tests.support.product import make_settings


def test_serve_without_options_has_the_default_settings(tmp_path: Path) -> None:
    command = typer.main.get_command(serve)
    with command.make_context("serve", ["--models", str(tmp_path)]) as context:
        params = context.params | {"models": Path(context.params["models"])}  # older typers convert it later
        assert settings_of(params) == Settings(models=tmp_path)


def test_help_shows_ten_options_and_help_all_the_others() -> None:
    shown, every = (
        set(re.findall(r"--[a-z-]+", CliRunner().invoke(serve, [option], env={"COLUMNS": "80"}).output))
        for option in ("--help", "--help-all")
    )
    names = {each.opts[0] for each in typer.main.get_command(serve).params} - REMOVED.keys()
    assert len(shown - {"--help", "--help-all"}) == 10
    assert names <= every
    assert shown < every
    assert not every & REMOVED.keys()


@pytest.mark.parametrize("name", REMOVED)
def test_an_option_that_is_gone_says_what_to_do(name: str) -> None:
    words = [name] if name == "--store-half" else [name, "2"]
    done = CliRunner().invoke(serve, words, env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert REMOVED[name] in done.output


@pytest.mark.parametrize(("text", "count"), [("384MiB", 384 << 20), ("1 KiB", 1024), ("2GiB", 2 << 30), ("7", 7)])
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["0", "0MiB", "-1", "1.5MiB", "3MB", "MiB", ""])
def test_what_is_no_size(text: str) -> None:
    done = CliRunner().invoke(serve, ["--max-body-bytes", text], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "is no size above 0: write such as 384MiB, or a number of bytes" in done.output


@pytest.mark.parametrize(
    "field", ["max_sessions", "session_idle_s", "max_body_bytes", "engine_threads", "store_timeout_s"]
)
def test_a_limit_of_nothing_is_refused(field: str) -> None:
    limits: dict[str, Any] = {field: 0}
    with pytest.raises(ValueError, match=field.removeprefix("store_")):
        make_settings(**limits)


def test_the_longest_body_has_room() -> None:
    with pytest.raises(ValueError, match="max_body_bytes: 1000 is above 999"):
        Limits(max_body_bytes=1000, max_held_bytes=999)


def test_a_port_is_16_bits() -> None:
    assert Settings(models=Path("models"), port=0).port == 0
    with pytest.raises(ValueError, match="port"):
        Settings(models=Path("models"), port=70_000)
    with pytest.raises(ValueError, match="port: 70000 is not within"):
        Settings(models=Path("models"), grpc_port=70_000)


@pytest.mark.parametrize("name", ["tls_cert", "tls_key"])
def test_a_certificate_goes_with_its_key(name: str) -> None:
    one: dict[str, Any] = {name: Path("one.pem")}
    with pytest.raises(ValueError, match="tls_cert and tls_key go together"):
        AccessSettings(**one)
    done = CliRunner().invoke(serve, [f"--{name.replace('_', '-')}", "one.pem"], env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert "--tls-cert and --tls-key go together" in done.output


@pytest.mark.parametrize(
    "origin",
    [
        *("example.org", "https://example.org/", "https://", "ftp://a", "http://[", "*", "null"),
        *("https://a:443", "http://a:80", "https://a:70000", "https://me@a", "https://a b"),  # never sent by browsers
    ],
)
def test_an_origin_is_a_scheme_and_a_host(origin: str) -> None:
    with pytest.raises(ValueError, match="is no origin: write such as https"):
        Settings(models=Path("models"), cors_origins=("https://a.example:8443", origin))
    result = CliRunner().invoke(serve, ["--cors-origin", origin], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "is no origin: write such as https://example.org" in result.output


def test_a_device_is_one_of_three() -> None:
    assert Settings(models=Path("models")).device == "auto"
    with pytest.raises(ValueError, match="device: 'tpu' is not one of auto, cpu, cuda"):
        Settings(models=Path("models"), device="tpu")  # type: ignore[arg-type]
