"""All tests of the experiments are of level 3: ``pytest -m '' research/tests``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.seed import SEED

settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("seeded", deadline=None, max_examples=1_000)  # with --hypothesis-seed
settings.load_profile("seeded" if SEED else "fixed")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
os.environ.pop("COLUMNS", None)


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.long)
