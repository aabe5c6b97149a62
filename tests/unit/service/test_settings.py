from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings


def test_every_field_is_documented() -> None:
    text = Settings.__doc__ or ""
    assert [field.name for field in fields(Settings) if field.name not in text] == []


@pytest.mark.parametrize("field", ["max_sessions", "session_idle_s", "max_body_bytes", "engine_threads"])
def test_a_limit_of_nothing_is_refused(field: str) -> None:
    limits: dict[str, Any] = {field: 0}
    with pytest.raises(ValueError, match=field):
        Settings(models=Path("models"), **limits)


def test_the_longest_body_has_room() -> None:
    with pytest.raises(ValueError, match="max_upload_bytes: 999 is less than max_body_bytes"):
        Settings(models=Path("models"), max_body_bytes=1000, max_upload_bytes=999)


def test_a_port_is_16_bits() -> None:
    assert Settings(models=Path("models"), port=0).port == 0
    with pytest.raises(ValueError, match="port"):
        Settings(models=Path("models"), port=70_000)


def test_a_device_is_one_of_three() -> None:
    assert Settings(models=Path("models")).device == "auto"
    with pytest.raises(ValueError, match="device: 'tpu' is none of auto, cpu, cuda"):
        Settings(models=Path("models"), device="tpu")  # type: ignore[arg-type]
