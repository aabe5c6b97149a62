"""The smoke test of models, on an engine of its own."""

from __future__ import annotations

from service.engine.engine import Engine
from service.models.model import Model
from service.reload.smoke_test import smoke_test

ENGINE = Engine(max_chunk_steps=1000, segment_steps=500)


def smoke_tested(model: Model) -> None:
    smoke_test(model, ENGINE)
