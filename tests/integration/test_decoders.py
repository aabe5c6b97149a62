"""Every decoder gives a valid value or a HetsynError with a sentence, whatever the bytes, and soon.

The long run: ``pytest tests/integration/test_decoders.py --fuzz-inputs 100000``
"""

from __future__ import annotations

import pytest

from service.models.catalog import ModelCatalog
from tests.support.artifacts.artifact import Takes, write_artifact
from tests.support.artifacts.default import with_default
from tests.support.artifacts.fake_graph import load_fake
from tests.support.hostile.decoders import Decoder, decoders
from tests.support.hostile.mutation import try_inputs

NAMES = (
    "JSON body",
    "events in JSON",
    "dense in JSON",
    "values in JSON",
    "base64 sound",
    "query",
    "content type",
    "WAV",
    "FLAC",
    "Ogg",
    "resealed Ogg",
    "MP3",
    "L16",
    "packed events",
    "packed values",
    "frame",
    "session record",
    "resealed session record",
    "token",
)


@pytest.fixture(scope="module")
def all_decoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Decoder]:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder)
    kinds: tuple[Takes, ...] = ("values", "rows", "frames")
    for takes in kinds:
        write_artifact(folder, takes, takes=takes)
    return decoders(ModelCatalog(with_default(folder, "digits"), load=load_fake))


@pytest.mark.parametrize("name", NAMES)
def test_valid_inputs_are_decoded(all_decoders: dict[str, Decoder], name: str) -> None:
    assert list(all_decoders) == list(NAMES)
    decoder = all_decoders[name]
    for seed in decoder.seeds[:1]:
        decoder.check(decoder.decode(seed))


@pytest.mark.parametrize("name", NAMES)
def test_any_input_is_decoded_or_refused(
    all_decoders: dict[str, Decoder], name: str, pytestconfig: pytest.Config
) -> None:
    try_inputs(all_decoders[name], name, pytestconfig.getoption("--fuzz-inputs"))
