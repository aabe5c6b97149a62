"""Chooses where networks run at the start of a server: a GPU has to give the CPU's answers first."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from service.engine.engine import Engine
from service.errors import HetsynError
from service.models.catalog import ModelCatalog
from service.reload.golden_test import golden_test
from service.runtime.device import Device
from service.settings import DeviceChoice


class Chosen(NamedTuple):
    """The result of the choice.

    Attributes:
        catalog: the models, loaded where their networks run.
        device: on which networks run; None is the CPU.
        reason: a sentence for the operator; empty if there was no choice.
    """

    catalog: ModelCatalog
    device: Device | None
    reason: str


def choose_device(
    choice: DeviceChoice, device: Device | None, engine: Engine, open_on: Callable[[Device | None], ModelCatalog]
) -> Chosen:
    """Open the models on a device. With ``auto``, each artifact's golden streams have to give the CPU's answers on it.

    Args:
        choice: of the operator.
        device: that was found; None is the CPU.
        engine: runs the golden streams.
        open_on: opens the models on a device.

    Raises:
        HetsynError: the models cannot be opened.
    """
    if device is None:
        return Chosen(open_on(None), None, "")
    if choice != "auto":
        return Chosen(open_on(device), device, f"{device.name} was not compared with the CPU: --device auto does that")
    try:
        catalog = open_on(device)
        models = catalog.snapshot.by_key().values()
        for model in models:
            golden_test(model, engine)
    except HetsynError as error:
        return Chosen(open_on(None), None, f"{device.name} does not give the CPU's answers: {error}")
    return Chosen(
        catalog, device, f"{device.name} gave the CPU's answers on the golden streams of {len(models)} models"
    )
