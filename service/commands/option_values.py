"""The values that options of ``hetsyn serve`` may have."""

from __future__ import annotations

from enum import StrEnum

import typer

from service.settings import is_origin


def check_origins(origins: list[str] | None) -> list[str]:
    for origin in origins or ():
        if not is_origin(origin):
            raise typer.BadParameter(
                f"{origin!r} is no origin: write such as https://example.org, with no path and no usual port"
            )
    return origins or []


class DeviceName(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Forms(StrEnum):
    any = "any"
    default = "default"


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class LogFormatName(StrEnum):
    text = "text"
    json = "json"
