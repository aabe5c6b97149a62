"""Valid inputs that were changed at random."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence

from service.errors import HetsynError
from tests.support.hostile.decoders import Decoder
from tests.support.seed import SEED

LONGEST_SENTENCE = 1_000
LONGEST_CPU_S = 1.0  # an input has some hundred bytes


def inputs(decoder: Decoder, name: str, count: int) -> Iterator[bytes]:
    """Valid inputs after up to five changes, and one in ten any bytes. Hypothesis takes a hundred times as long."""
    rng = random.Random(f"{name} {SEED}")
    for _ in range(count):
        if rng.random() < 0.1:
            yield rng.randbytes(rng.randrange(200))
            continue
        content = rng.choice(decoder.seeds)
        for _ in range(rng.randrange(6)):
            content = changed(content, rng, decoder.snippets)
        yield content


def changed(content: bytes, rng: random.Random, snippets: Sequence[bytes]) -> bytes:
    at, length = rng.randrange(len(content) + 1), rng.randrange(40)
    snippet = rng.choice(snippets) if rng.random() < 0.7 else rng.randbytes(rng.randrange(8))
    match rng.randrange(5):
        case 0:  # insert
            return content[:at] + snippet + content[at:]
        case 1:  # overwrite
            return content[:at] + snippet + content[at + len(snippet) :]
        case 2:  # repeat a piece
            return content[: at + length] + content[at:]
        case 3:  # cut a piece out
            return content[:at] + content[at + length :]
        case _:  # flip a bit
            return (
                content[:at] + bytes(byte ^ 1 << rng.randrange(8) for byte in content[at : at + 1]) + content[at + 1 :]
            )


def try_inputs(decoder: Decoder, name: str, count: int) -> None:
    """Check that a decoder gives a valid value or a sentence, whatever the bytes, and soon."""
    decoded = refused = 0
    for content in inputs(decoder, name, count):
        began_s = time.thread_time()
        try:
            try:
                value = decoder.decode(content)
            except HetsynError as error:
                refused += 1
                sentence = str(error)
                assert 10 <= len(sentence) <= LONGEST_SENTENCE, sentence
            else:
                decoded += 1
                decoder.check(value)
            assert time.thread_time() - began_s < LONGEST_CPU_S
        except BaseException as error:
            error.add_note(f"the input was {content!r}")
            raise
    assert decoded > 0
    assert refused > 0
