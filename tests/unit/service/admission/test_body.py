"""Bodies that are refused before any of them is read; ``test_bodies`` has the others."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest

from service.admission.budget import Admission, Budget
from service.admission.uploads import Upload, Uploads
from service.errors import TooLarge
from service.settings import Limits


@pytest.mark.parametrize("declared", [b"1001", b"0" * 5000 + b"1001", b"9" * 5000])
async def test_a_body_that_is_declared_too_long_is_not_read(declared: bytes) -> None:
    async def receive() -> MutableMapping[str, Any]:
        pytest.fail("a part of the body was read")

    with pytest.raises(TooLarge, match="longer than 1000 bytes"):
        await Upload(Uploads(Admission(Budget(Limits())), 30.0), "a").read(receive, declared, 1000)


async def test_a_length_may_have_any_number_of_zeros() -> None:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"1234"}

    assert (
        await Upload(Uploads(Admission(Budget(Limits())), 30.0), "a").read(receive, b"0" * 5000 + b"4", 1000) == b"1234"
    )
