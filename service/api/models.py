"""``/models``: the models that the server offers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from service.api.problems import documented
from service.models.catalog import ModelCatalog
from service.models.describe import summary
from service.runtime.operators import OperatorStatus


def router(catalog: ModelCatalog, operator: OperatorStatus) -> APIRouter:
    routes = APIRouter(tags=["models"])

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

    return routes
