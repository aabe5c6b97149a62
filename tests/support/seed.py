"""The seed of the tests' generated inputs: fixed for every edit and merge, the day's in ``make test-long``."""

from __future__ import annotations

import os

VARIABLE = "HETSYN_TEST_SEED"
SEED = int(os.environ.get(VARIABLE, "0"))
