"""What kustomize makes of our base: its resources, with generated ConfigMaps. No more of kustomize than we use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ROOT

BASE = ROOT / "docker/kubernetes"
KNOWN = {"apiVersion", "kind", "labels", "resources", "configMapGenerator", "images"}

Object = dict[str, Any]


def kustomization() -> Object:
    found: Object = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    assert found.keys() <= KNOWN, "teach this helper what else the base uses"
    return found


def rendered() -> list[Object]:
    """The objects of the base."""
    base = kustomization()
    objects = [one for name in base["resources"] for one in yaml.safe_load_all((BASE / name).read_text())]
    for generator in base["configMapGenerator"]:
        data = {Path(name).name: (BASE / name).read_text() for name in generator["files"]}
        metadata = {"name": generator["name"]}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    for one in objects:
        labels = one["metadata"].setdefault("labels", {})
        for addition in base["labels"]:
            labels.update(addition["pairs"])
    tags = {image["name"]: f"{image['name']}:{image['newTag']}" for image in base["images"]}
    for _, spec in pods(objects):
        for container in spec["containers"]:
            container["image"] = tags.get(container["image"], container["image"])
    return objects


def pods(objects: list[Object]) -> list[tuple[Object, Object]]:
    """Each workload with the specification of its pods."""
    return [(one, one["spec"]["template"]["spec"]) for one in objects if "template" in one.get("spec", {})]


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [one for one in objects if one["kind"] == kind]
