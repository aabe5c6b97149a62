"""Chooses where networks run at the start of a server: a GPU has to give the CPU's answers first."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from service.engine.engine import Engine
from service.models.catalog import ModelCatalog
from service.reload.golden_test import golden_test
from service.reload.reload import plan_reload
from service.reload.smoke_test import smoke_test
from service.reload.time_limit import TimeLimit
from service.runtime.device import Device
from service.settings import DeviceChoice, Settings


class Chosen(NamedTuple):
    """The result of the choice.

    Attributes:
        device: runs the networks; None is the CPU.
        reason: a sentence for the operator; empty if there was no choice.
    """

    device: Device | None
    reason: str


def choose_device(
    choice: DeviceChoice,
    device: Device | None,
    engine: Engine,
    empty_catalog: Callable[[Device | None], ModelCatalog],
    load_timeout_s: float = Settings.load_timeout_s,
) -> Chosen:
    """Choose a device. With ``auto``, each artifact's golden streams have to give the CPU's answers on it.

    An artifact that fails on the CPU too does not count against the device.

    Args:
        device: the device that was found; None is the CPU.
        empty_catalog: makes a catalog of the folder for a device, without models yet.
        load_timeout_s: time limit for each version.
    """
    if device is None:
        return Chosen(None, "")
    if choice != "auto":
        return Chosen(device, f"{device.name} was not compared with the CPU: --device auto does that")
    limit = TimeLimit(load_timeout_s)
    on_device = plan_reload(empty_catalog(device), lambda model: golden_test(model, engine), limit)
    if on_device.refused:
        on_cpu = plan_reload(empty_catalog(None), lambda model: smoke_test(model, engine), limit)
        unusable = {part.where for part in on_cpu.refused}
        for part in on_device.refused:
            if part.where not in unusable:
                return Chosen(None, f"{device.name} does not give the CPU's answers: {part.reason}")
    models = on_device.snapshot.count
    return Chosen(device, f"{device.name} gave the CPU's answers on the golden streams of {models} models")
