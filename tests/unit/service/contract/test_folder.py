from __future__ import annotations

from service.contract.folder import natural_key, read_default
from tests.support.paths import MODELS


def test_natural_key_takes_mixed_names() -> None:
    assert sorted(["v10", "v9", "10", "alpha", "v9-rc"], key=natural_key) == ["10", "alpha", "v9", "v9-rc", "v10"]


def test_the_shipped_folder_has_a_default() -> None:
    assert read_default(MODELS) == "speech-digits"
