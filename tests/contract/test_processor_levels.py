"""Every level of the processor and any number of threads: the same bits of shipped models and of all families."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.kernels import dynap_se, f_lif
from service.runtime.operators import library
from tests.support.networks.exported import FORMS, Exported, exported, exported_family
from tests.support.networks.families import FAMILIES
from tests.support.networks.networks import KINDS
from tests.support.networks.processor_levels import NO_LEVELS, processor_levels
from tests.support.paths import MODELS, ROOT
from tests.support.tools import NO_OPERATOR

pytestmark = pytest.mark.long

STEPS, STREAMS = 90, 5


def of_level(level: str, models: Path) -> dict[str, str]:
    command = [sys.executable, "-m", "tests.support.networks.operator_digests", str(library()), str(models)]
    environment = os.environ | {"HETSYN_KERNEL": level}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    found: dict[str, str] = json.loads(process.stdout)
    return found


def write(folder: Path, made: Exported) -> None:
    """Write of an artifact what the digests read."""
    folder.mkdir(parents=True)
    (folder / "network.onnx").write_bytes(made.content)
    state: list[dict[str, Any]] = [{"shape": tensor.shape, "dtype": tensor.dtype} for tensor in made.compiled.layout]
    manifest = {"network": {"file": "network.onnx", "state": state}, "encoder": None}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rng, channels = np.random.default_rng(0), made.compiled.spec.channels
    spikes = (rng.random((STREAMS, STEPS, channels)) < 0.15).astype(np.uint8)
    np.savez(folder / "golden.npz", spikes=spikes, steps=np.array([STEPS, 3, 60, 1, STEPS]))


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each family, beside the kernels' examples."""
    models = tmp_path_factory.mktemp("families")
    for form in FORMS:
        for kind in KINDS:
            write(models / f"{kind}-{form}" / "1", exported(kind, "last", form))
        for name in FAMILIES:
            write(models / f"{name}-{form}" / "1", exported_family(name, form)[0])
    f_lif.main(str(models / "f-lif" / "1"), updates=1)
    dynap_se.main(str(models / "dynap-se" / "1"), updates=1)
    return models


@pytest.mark.skipif(library() is None, reason=NO_OPERATOR)
@pytest.mark.skipif(not processor_levels(), reason=NO_LEVELS)
@pytest.mark.parametrize("which", ["shipped", "families"])
def test_all_levels_give_the_same_bits(which: str, request: pytest.FixtureRequest) -> None:
    models = MODELS if which == "shipped" else request.getfixturevalue("families")
    first, *others = (of_level(level, models) for level in processor_levels())
    assert len(first) >= 9
    assert others
    assert all(other == first for other in others), (first, others)
