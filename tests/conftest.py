"""Settings of the tests, and fixtures that several of them use."""

from __future__ import annotations

import os
import random
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from service.models.catalog import ModelCatalog
from service.models.model import Model
from tests.support.artifact import write_artifact
from tests.support.gate import Gate
from tests.support.tools import LACKING

# a shared machine is slow at times: no deadline; the same examples in every run
settings.register_profile("hetsyn", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("hetsyn")

# tests share two cores with the servers that they start; read when torch and its kind are imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

# where CI has installed what these tests need, it says so, and then they may not be skipped
TOOLS_INSTALLED = "HETSYN_TOOLS_INSTALLED"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get(TOOLS_INSTALLED) and any(why in str(report.longrepr) for why in LACKING):
        report.outcome = "failed"
        report.longrepr = f"{TOOLS_INSTALLED} is set, and yet: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)


@pytest.fixture
def gate() -> Gate:
    """Holds, fails and counts the runs of the fake graphs."""
    return Gate()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with one fake model, ``digits``."""
    write_artifact(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def catalog(models: Path, gate: Gate) -> ModelCatalog:
    return ModelCatalog(models, load=gate.load)


@pytest.fixture
def model(catalog: ModelCatalog) -> Model:
    return catalog.get("digits")
