"""The results as JSON."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from hetsyn_client.loadtest.measurement import Measurement
from hetsyn_client.loadtest.run import RampResult

FORMAT_VERSION = 1


def as_json(settings: Mapping[str, Any], result: Measurement | RampResult) -> dict[str, Any]:
    """All settings and figures, as JSON values.

    Args:
        settings: the options of the run, JSON values.
        result: of one load, or of a search.
    """
    head = {
        "format_version": FORMAT_VERSION,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": dict(settings),
        "generator": {"python": platform.python_version(), "system": platform.platform()},
    }
    if isinstance(result, Measurement):
        return head | {"measurement": asdict(result)}
    return head | {
        "goal": asdict(result.goal),
        "saturation": asdict(result.saturation),
        "probe": asdict(result.probe),
        "trials": [asdict(trial) for trial in result.trials],
    }
