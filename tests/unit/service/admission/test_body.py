"""Bodies that are refused before any of them is read; ``test_bodies`` has the others."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest

from service.admission.body import read_body
from service.admission.uploads import Upload, Uploads
from service.errors import TooLarge
from service.settings import Limits


async def test_a_body_that_is_declared_too_long_is_not_read() -> None:
    async def receive() -> MutableMapping[str, Any]:
        pytest.fail("a part of the body was read")

    with pytest.raises(TooLarge, match="longer than 1000 bytes"):
        await read_body(receive, b"1001", 1000, Upload(Uploads(Limits()), "a"))
