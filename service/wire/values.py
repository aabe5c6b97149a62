"""Decodes packed values; ``hetsyn_client.values`` has the format."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hetsyn_client.values import MEDIA_TYPE, check_values
from service.contract.manifest import MAX_VALUES
from service.errors import InputError
from service.wire.chunk import ValuesChunk


def unpack_values(data: bytes, parameters: Mapping[str, str]) -> ValuesChunk:
    """Decode packed values.

    Args:
        parameters: the content type's, names in lower case: ``channels``, the numbers of a row.

    Raises:
        InputError: a parameter is missing, unknown or impossible, the body has no whole number of rows, or a number is
            not finite.
    """
    for name in parameters:
        if name != "channels":
            raise InputError(f"{MEDIA_TYPE} has no parameter {name[:64]!r}: it takes channels")
    text = parameters.get("channels", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= MAX_VALUES):
        problem = f"channels={text[:64]!r} is no number of channels" if text else "the content type has no channels"
        raise InputError(f"{problem}: send '{MEDIA_TYPE};channels=3' where a row has 3 numbers")
    channels = int(text)
    if len(data) % (4 * channels):
        raise InputError(
            f"{len(data)} bytes are not a whole number of rows of {channels} float32: send whole rows, 4 bytes a number"
        )
    rows = np.frombuffer(data, "<f4").reshape(-1, channels)
    return ValuesChunk(check_values(rows))
