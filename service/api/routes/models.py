"""``/models``: the models that the server offers."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query

from service.api.problems import documented
from service.contract.describe import summary
from service.errors import ArtifactError, NotFound
from service.models.catalog import ModelCatalog
from service.models.golden import golden_streams
from service.models.model import Model
from service.runtime.operators import OperatorStatus

MAX_EXAMPLE_BYTES = 2**24  # of all golden streams of a model, unpacked


def router(catalog: ModelCatalog, operator: OperatorStatus) -> APIRouter:
    routes = APIRouter(tags=["models"])
    one_example = asyncio.Lock()  # at a time: each is unpacked from a file

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        """The models, each described in its newest version, and whether our operator runs them on the CPU."""
        entries = []
        for name in catalog.names:
            manifest = catalog.get(name).manifest
            entries.append(
                {
                    "name": name,
                    "version": manifest.version,
                    "versions": catalog.versions(name),
                    "description": manifest.description,
                    "labels": list(manifest.labels),
                    "inputs": list(manifest.inputs),
                }
            )
        running = {"in_use": operator.in_use, "built": operator.built, "kernel": operator.kernel}
        return {"models": entries, "default_model": catalog.default_name, "operator": running}

    @routes.get("/models/{name}", responses=documented({404: "no such model or version"}))
    async def model(name: str, version: str | None = None) -> dict[str, Any]:
        """One model as its manifest describes it; by default its newest version."""
        return {**summary(catalog.get(name, version).manifest), "versions": catalog.versions(name)}

    problems = {404: "no such model, version or example", 422: "`index` is no whole number from 0"}

    @routes.get("/models/{name}/example", responses=documented(problems))
    async def example(
        name: str, version: str | None = None, index: Annotated[int, Query(ge=0, le=2**31)] = 0
    ) -> dict[str, Any]:
        """An input that the model's artifact has for its tests, to try the model with: `input` of `POST /infer`."""
        async with one_example:
            return await asyncio.to_thread(_example, catalog.get(name, version), index)

    return routes


def _example(model: Model, index: int) -> dict[str, Any]:
    try:
        streams = golden_streams(model, MAX_EXAMPLE_BYTES)
    except ArtifactError as error:
        raise NotFound(f"model {model.name!r} has no example that can be read: {error}") from error
    count = len(streams.steps)
    if index >= count:
        raise NotFound(f"model {model.name!r} has {count} examples: the first has the index 0")
    steps = int(streams.steps[index])
    inputs = streams.inputs[index, :steps]
    example: dict[str, Any]
    if model.manifest.input.kind == "values":
        example = {"kind": "values", "values": inputs.astype(float).tolist()}
    else:
        times, units = inputs.nonzero()
        example = {"kind": "events", "steps": steps, "times": times.tolist(), "units": units.tolist()}
    return {"model": model.name, "version": model.version, "index": index, "count": count, "input": example}
