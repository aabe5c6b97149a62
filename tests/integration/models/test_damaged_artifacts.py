"""Any artifact is served or refused with a sentence, whatever its manifest, graphs and golden streams contain.

The long run: ``pytest tests/integration/models/test_damaged_artifacts.py -m '' --fuzz-inputs 100000``
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.contract.describe import summary
from service.contract.folder import newest_artifact
from service.engine.engine import Engine
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.reload.golden_test import golden_test
from service.reload.reload import plan_reload
from service.reload.smoke_test import smoke_test
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.artifact_file import rewrite
from tests.support.artifacts.fake_graph import load_fake
from tests.support.paths import MODELS
from tests.support.seed import SEED

ENGINE = Engine(20_000)
MAX_MODEL_BYTES = 2**24
LONGEST_SENTENCE = 1_000
TEXT = re.compile(rb"[0-9A-Za-z]{4}")
EXTREMES: list[Any] = [
    None, True, -1, 0, 1, 0.5, 2**31, 2**53, 2**63, 10**30, 10**400, -(10**18), 1e308, -1e308, float("nan"),
    float("inf"), "", "a", "a\0b", "\ud800", "../x", "/etc/passwd", "x" * 10_000, [], {}, [[]], [0] * 1_000,
    [-1, -1], [2**40], [2**31 - 1] * 8, {"": 0}, {"a\0b": 1}, "float64", "int64", "trace", "manifest.json",
]  # fmt: skip


def reasons(models: Path, test: Callable[[Model], None], **options: Any) -> list[str]:
    """Why parts of a folder are refused when a server starts."""
    catalog = ModelCatalog(models, is_empty=True, max_model_bytes=MAX_MODEL_BYTES, **options)
    plan = plan_reload(catalog, test)
    for model in plan.opened:  # what a server says of it
        json.dumps(summary(model.manifest), allow_nan=False)
    if plan.snapshot.models:
        catalog.publish(plan.snapshot)
    return [part.reason for part in plan.refused]


def check(sentences: list[str], folder: Path) -> None:
    for sentence in sentences[:1]:  # the second is that there is no model at all
        assert len(sentence) <= LONGEST_SENTENCE
        assert str(folder) in sentence or folder.parent.name in sentence
        assert sentence.count(": ") >= 1
        assert "cannot be used (" not in sentence, "not an ArtifactError"


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value, with each of its keys or indices."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(children):
        yield value, key
        yield from places(child)


def changed_manifest(manifest: Any, rng: random.Random) -> str:
    manifest = copy.deepcopy(manifest)
    for _ in range(rng.randrange(1, 4)):
        container, key = rng.choice(list(places(manifest)))
        match rng.randrange(4):
            case 0:
                del container[key]
            case 1 if isinstance(container, dict):
                container[str(rng.choice(EXTREMES))] = copy.deepcopy(container[key])
            case 2 if isinstance(container, list):
                container.append(copy.deepcopy(rng.choice(EXTREMES)))
            case _:
                container[key] = copy.deepcopy(rng.choice(EXTREMES))
    # a total that is right again, so that its check hides no other
    network = manifest.get("network")
    if isinstance(network, dict) and rng.random() < 0.5:
        network["state_bytes"] = rng.choice([32, 4, 0, 2**28])
    text = json.dumps(manifest)
    if rng.random() < 0.1:
        text = text[: rng.randrange(len(text))]
    return text


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """With up to eight bytes changed, and most of them among names and sizes, not among weights."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(changed))
        if rng.random() < 0.8:  # before a printable text
            text = TEXT.search(changed, at, len(changed) - 1)
            at = max(0, (at if text is None else text.start()) - rng.randrange(4))
        match rng.randrange(4):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del changed[at : at + rng.randrange(1, 6)]
            case _:
                changed[at:at] = rng.randbytes(rng.randrange(1, 5))
        if not changed:
            return b""
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.1 else changed)


def test_any_manifest_is_served_or_refused(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    folder = write_artifact(tmp_path)
    original, rng, refused = json.loads((folder / "manifest.json").read_text()), random.Random(f"manifest {SEED}"), 0
    count = pytestconfig.getoption("--fuzz-inputs")
    for _ in range(count):
        text = changed_manifest(original, rng)
        (folder / "manifest.json").write_text(text)
        try:
            sentences = reasons(tmp_path, lambda _: None, load=load_fake)
            check(sentences, folder)
        except BaseException as error:
            error.add_note(f"the manifest was {text}")
            raise
        refused += len(sentences)
    assert count // 2 < refused < count


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "file"),
    [("delayed-match", "bank.onnx"), ("speech-digits", "encoder.onnx"),
     ("delayed-match", "golden.npz")],
)  # fmt: skip
def test_any_file_is_served_or_refused(tmp_path: Path, pytestconfig: pytest.Config, model: str, file: str) -> None:
    shipped = newest_artifact(MODELS / model).folder
    folder = tmp_path / model / shipped.name
    shutil.copytree(shipped, folder)
    content, rng, refused = (folder / file).read_bytes(), random.Random(f"{file} {SEED}"), 0
    count = max(500, pytestconfig.getoption("--fuzz-inputs") // 4)  # ONNX Runtime opens each; few stay as they were

    def test(model: Model) -> None:
        golden_test(model, ENGINE) if file == "golden.npz" else smoke_test(model, ENGINE)

    for number in range(count):
        made = changed_bytes(content, rng)
        rewrite(folder, file, made)
        try:
            sentences = reasons(tmp_path, test)
            check(sentences, folder)
        except BaseException as error:
            error.add_note(f"file {number}, {hashlib.sha256(made).hexdigest()}, is kept in {folder}")
            raise
        refused += len(sentences)
    assert 0 < refused < count
