"""Settings of the tests, and fixtures that several of them use."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from hypothesis import settings

from service.models.catalog import ModelCatalog
from service.models.model import Model
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.gate import Gate
from tests.support.seed import SEED

# a shared machine is slow at times: no deadline
settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("seeded", deadline=None, max_examples=1_000)  # with --hypothesis-seed
settings.load_profile("seeded" if SEED else "fixed")

# nor the five seconds of httpx for each part of a request
for part in ("connect", "read", "write", "pool"):
    setattr(DEFAULT_TIMEOUT_CONFIG, part, 60.0)

# tests share two cores with the servers that they start; read when torch and its kind are imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
# a width that a shell or pytest-xdist exports would stay in every console that a module makes when it is imported
os.environ.pop("COLUMNS", None)

pytest_plugins = ["tests.support.required_tools", "tests.support.left_out"]

# the files that take longest, with few tests: in several processes they start first, or they would be the last to end
LONGEST = (
    "unit/build_support/test_builds_alike.py", "integration/test_benchmarks.py", "integration/test_release.py",
    "long/test_faults.py", "e2e/pages/test_documents.py", "integration/models/test_own_cells.py",
    "integration/models/test_train_and_export.py", "e2e/pages/test_own_networks.py",
    "unit/export/nir/test_importing.py", "unit/export/inspection/test_energy.py", "e2e/test_keys.py",
    "e2e/test_client.py", "e2e/test_page.py",
)  # fmt: skip
ASYNC_TEST_S = 120.0  # an async test takes seconds at most, on a very busy machine a minute


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuzz-inputs", type=int, default=200, help="inputs for each decoder in tests/integration/test_decoders.py"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # pytest-xdist would begin with the files of most tests


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not hasattr(config, "workerinput"):  # no process of pytest-xdist
        return
    tests = Counter(item.path for item in items)
    ranks = {config.rootpath / "tests" / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (ranks.get(item.path, len(ranks)), -tests[item.path], item.path))


def pytest_report_header() -> str:
    return f"seed of generated inputs: {SEED}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """An async test that waits for ever fails, and its fixtures are torn down."""
    test = pyfuncitem.obj
    if inspect.iscoroutinefunction(test):

        async def in_time(**arguments: Any) -> None:
            async with asyncio.timeout(ASYNC_TEST_S):
                await test(**arguments)

        pyfuncitem.obj = in_time
    return (yield)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(SEED)
    np.random.seed(SEED)


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, each in an event loop of its own."""
    return "asyncio"


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
