from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from service.commands.serve import serve
from service.settings import AccessSettings, Batching, GrpcSettings, Limits, Retention, Settings, StoreSettings
from tests.support.product import make_settings

GROUPS = (Settings, Limits, Retention, Batching, StoreSettings, GrpcSettings, AccessSettings)


@pytest.mark.parametrize("group", GROUPS)
def test_every_field_is_documented(group: type) -> None:
    text = group.__doc__ or ""
    assert [field.name for field in fields(group) if field.name not in text and field.type not in GROUP_NAMES] == []


GROUP_NAMES = {group.__name__ for group in GROUPS}


def test_every_field_is_an_option_of_hetsyn_serve_with_the_same_default() -> None:
    options = {option.name: option for option in typer.main.get_command(serve).params}
    spelled = {"url": "store", "timeout_s": "store_timeout_s"}
    for group in GROUPS:
        for field in fields(group):
            if field.type not in GROUP_NAMES:
                prefix = "grpc_" if group is GrpcSettings else ""
                option = options[spelled.get(field.name, prefix + field.name)]
                if field.name != "models":  # a folder has to be named in a program
                    default = () if option.multiple and option.default is None else option.default
                    assert default == field.default, field.name


@pytest.mark.parametrize(
    "field", ["max_sessions", "session_idle_s", "max_body_bytes", "engine_threads", "store_timeout_s"]
)
def test_a_limit_of_nothing_is_refused(field: str) -> None:
    limits: dict[str, Any] = {field: 0}
    with pytest.raises(ValueError, match=field.removeprefix("store_")):
        make_settings(**limits)


def test_the_longest_body_has_room() -> None:
    with pytest.raises(ValueError, match="max_upload_bytes: 999 is less than max_body_bytes"):
        Limits(max_body_bytes=1000, max_upload_bytes=999)


def test_a_port_is_16_bits() -> None:
    assert Settings(models=Path("models"), port=0).port == 0
    with pytest.raises(ValueError, match="port"):
        Settings(models=Path("models"), port=70_000)
    with pytest.raises(ValueError, match="port: 70000 is not within"):
        GrpcSettings(70_000)


def test_a_certificate_goes_with_its_key() -> None:
    with pytest.raises(ValueError, match="tls_cert and tls_key go together"):
        GrpcSettings(0, tls_cert=Path("cert.pem"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--grpc-port", "0", "--grpc-tls-key", "key.pem"), "give all three"),
        (("--grpc-tls-cert", "cert.pem", "--grpc-tls-key", "key.pem"), "give all three"),
    ],
)
def test_options_of_grpc_that_do_not_go_together(options: tuple[str, ...], sentence: str) -> None:
    result = CliRunner().invoke(serve, [*options], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert sentence in result.output


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


def test_forms_are_any_or_the_default() -> None:
    with pytest.raises(ValueError, match="forms: 'bank' is not one of any, default"):
        Settings(models=Path("models"), forms="bank")  # type: ignore[arg-type]
