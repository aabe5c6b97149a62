"""States on a fake device: the same bits as in the host's memory, and no transfer that is not needed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.manifest import FormName
from service.engine.engine import Engine
from service.engine.stream import StreamState, initial_stream
from service.engine.work import Outcome, Work
from service.errors import ArtifactError, Overloaded
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.runtime import device_memory
from service.runtime.device_memory import DeviceMemory, DeviceRow, SlotPool
from service.runtime.onnx import load_graph
from service.wire.chunk import AudioChunk, SpikeChunk, spike_chunk
from tests.support.artifact import write_artifact
from tests.support.fake_device import FakeDevice
from tests.support.fake_graph import OUTPUTS, load_fake
from tests.support.paths import MODELS
from tests.support.signals import sound, spikes

ENGINE = Engine(max_chunk_steps=1000, segment_steps=7)
ROW_BYTES = 8 * OUTPUTS


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def resident(models: Path, device: FakeDevice) -> Model:
    """The model on a device."""
    return ModelCatalog(models, load=load_fake, device=device).get()


@pytest.fixture
def hosted(models: Path) -> Model:
    return ModelCatalog(models, load=load_fake).get()


@pytest.fixture
def four_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four slots."""
    monkeypatch.setattr(device_memory, "BLOCK_BYTES", 4 * ROW_BYTES)
    monkeypatch.setattr(device_memory, "MIN_BLOCK_SLOTS", 4)


def chunk(steps: int, seed: int) -> SpikeChunk:
    return spike_chunk(steps, *spikes(steps, seed))


def one(model: Model, stream: StreamState, piece: SpikeChunk | AudioChunk | None, end: bool = False) -> Outcome:
    return ENGINE.run(model, "exact", [Work(stream, piece, end)])[0]


def row_of(model: Model, stream: StreamState, form: FormName = "exact") -> Any:
    return model.states(form).to_host(stream.network)


def same(first: tuple[Model, Outcome], second: tuple[Model, Outcome], form: FormName = "exact") -> bool:
    """Bit for bit: states and results."""
    (model, a), (other, b) = first, second
    return (
        row_of(model, a.stream, form).tobytes() == row_of(other, b.stream, form).tobytes()
        and a.stream.step == b.stream.step
        and a.result.scores.tobytes() == b.result.scores.tobytes()
        and a.result.probabilities.tobytes() == b.result.probabilities.tobytes()
        and (a.result.readout is None or a.result.readout.tobytes() == getattr(b.result.readout, "tobytes", bytes)())
    )


def raster_of(outcome: Outcome) -> list[Any]:
    return [
        (part.first, {name: bits.tobytes() for name, bits in part.bits.items()}) for part in outcome.result.raster or ()
    ]


Rounds = list[list[tuple[int, int]]]
ROUNDS: st.SearchStrategy[Rounds] = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), min_size=1, max_size=6, unique_by=lambda item: item[0]),
    min_size=1,
    max_size=8,
)


@given(rounds=ROUNDS)
@settings(max_examples=40)
def test_any_batches_give_the_same_bits_as_on_the_host(
    rounds: Rounds, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder)
    device = FakeDevice()
    models = [ModelCatalog(folder, load=load_fake, device=where).get() for where in (device, None)]
    streams = [[initial_stream(model, "exact") for _ in range(6)] for model in models]
    for number, batch in enumerate(rounds):
        outcomes: list[list[Outcome]] = []
        for model, current in zip(models, streams, strict=True):
            work = [Work(current[who], chunk(steps, number * 10 + who), False) for who, steps in batch]
            outcomes.append(ENGINE.run(model, "exact", work))
            for (who, _), outcome in zip(batch, outcomes[-1], strict=True):
                current[who] = outcome.stream
        for a, b in zip(*outcomes, strict=True):
            assert same((models[0], a), (models[1], b))
    assert device.uploads <= 1  # the state that all streams begin with, if one has run


@pytest.mark.parametrize("rule", ["sum_softmax", "spike_count", "last", "trace"])
def test_each_rule_and_sound_give_the_same_bits(tmp_path: Path, rule: Any) -> None:
    write_artifact(tmp_path, rule=rule)
    models = [ModelCatalog(tmp_path, load=load_fake, device=where).get() for where in (FakeDevice(), None)]
    audio = sound(3000).astype(np.float32) / np.float32(32_768)
    got = []
    for model in models:
        fresh = initial_stream(model, "exact")
        works = [
            Work(fresh, AudioChunk(audio, 8000), False),
            Work(fresh, chunk(20, 1), True),
            Work(fresh, AudioChunk(audio[:30], 8000), False),  # less than a step
            Work(fresh, chunk(3, 2), False),
        ]
        got.append(ENGINE.run(model, "exact", works))
    assert all(same((models[0], a), (models[1], b)) for a, b in zip(*got, strict=True))


@pytest.mark.parametrize("form", ["bank", "exact"])
@pytest.mark.parametrize("use_operators", [True, False])
def test_a_real_network_bound_to_addresses_gives_the_same_bits(form: FormName, use_operators: bool) -> None:
    """ONNX Runtime's IO binding on addresses, as on a GPU, but for the processor."""

    def load(content: bytes) -> Any:
        return load_graph(content, use_operators=use_operators)

    device = FakeDevice(load)
    models = [ModelCatalog(MODELS, load=load, device=where).get("shd-size") for where in (device, None)]
    channels = models[0].manifest.input.channels
    engine = Engine(1000, 16)
    streams = [[initial_stream(model, form) for _ in range(3)] for model in models]
    for number, batch in enumerate([[0, 1, 2], [0, 1, 2], [2, 0], [1], [1, 2]]):
        outcomes = []
        for model, current in zip(models, streams, strict=True):
            rng = np.random.default_rng(number)
            trains = [np.nonzero(rng.random((20 + 5 * who, channels)) < 0.045) for who in batch]
            work = [
                Work(current[who], spike_chunk(20 + 5 * who, *train), False, spikes=number > 2)
                for who, train in zip(batch, trains, strict=True)
            ]
            outcomes.append(engine.run(model, form, work))
            for who, outcome in zip(batch, outcomes[-1], strict=True):
                current[who] = outcome.stream
        for a, b in zip(*outcomes, strict=True):
            assert same((models[0], a), (models[1], b), form)
            assert raster_of(a) == raster_of(b)
            assert (len(raster_of(a)) > 0) == (number > 2)


def test_states_travel_where_they_are_exported_and_imported_alone(resident: Model, device: FakeDevice) -> None:
    stream = initial_stream(resident, "exact")
    for _ in range(5):
        stream = one(resident, stream, chunk(20, 3)).stream
    results = 8 + 4 * OUTPUTS * 2  # step, scores, probabilities
    # the state that all streams begin with; three segments each
    assert (device.uploads, device.downloaded_bytes) == (1, 5 * 3 * results)
    states = resident.states("exact")
    values = states.to_host(stream.network)
    assert device.downloaded_bytes == 5 * 3 * results + ROW_BYTES
    back = states.from_host(values.copy())
    assert states.to_host(back).tobytes() == values.tobytes()
    assert device.uploads == 1  # no caller waits for the device
    one(resident, stream._replace(network=back), chunk(20, 3))
    assert device.uploads == 2


def test_a_batch_brings_the_states_that_will_be_read_in_one_transfer(
    resident: Model, device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit reads them on the event loop, which must not wait for the next batch on the device."""
    stream = initial_stream(resident, "exact")
    downloads: list[int] = []
    download = device.download

    def counted(address: int, nbytes: int) -> Any:
        downloads.append(nbytes)
        return download(address, nbytes)

    monkeypatch.setattr(device, "download", counted)
    works = [Work(stream, chunk(5, n), end=False, needs_host=n != 1) for n in range(4)]
    outcomes = ENGINE.run(resident, "exact", works)
    assert downloads[-1] == 3 * ROW_BYTES
    assert len(downloads) == 2  # the batch's results, and the states
    states = resident.states("exact")
    with device.lock:  # as a batch holds it
        rows = [states.to_host(outcomes[b].stream.network) for b in (0, 2, 3)]
    for b, values in zip((0, 2, 3), rows, strict=True):
        assert states.to_host(outcomes[b].stream.network).tobytes() == values.tobytes()  # from the device again
    assert len(downloads) == 2 + 3


def test_the_states_of_chunks_without_a_step_come_in_the_same_transfer(
    resident: Model, device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = one(resident, initial_stream(resident, "exact"), chunk(5, 0)).stream
    downloads: list[int] = []
    download = device.download

    def counted(address: int, nbytes: int) -> Any:
        downloads.append(nbytes)
        return download(address, nbytes)

    monkeypatch.setattr(device, "download", counted)
    works = [Work(first, chunk(steps, 1), end=False, needs_host=True) for steps in (0, 5)]
    outcomes = ENGINE.run(resident, "exact", works)
    before = len(downloads)
    assert downloads[-1] == 2 * ROW_BYTES
    states = resident.states("exact")
    with device.lock:  # as a batch holds it
        for outcome in outcomes:
            states.to_host(outcome.stream.network)
    assert len(downloads) == before


def test_rows_that_lie_together_are_not_copied(resident: Model, device: FakeDevice) -> None:
    stream = initial_stream(resident, "exact")
    stream = one(resident, stream, chunk(5, 0)).stream
    assert device.copies == 0  # alone
    batch = ENGINE.run(resident, "exact", [Work(stream, chunk(5, n), False) for n in range(4)])
    assert (device.copies, device.copied_rows) == (1, 4)  # four times the same row
    again = ENGINE.run(resident, "exact", [Work(outcome.stream, chunk(20, 0), False) for outcome in batch])
    assert device.copies == 1  # as the batch before left them, over three segments
    ENGINE.run(resident, "exact", [Work(outcome.stream, chunk(5, 0), False) for outcome in reversed(again)])
    assert device.copies == 2


def test_a_failing_batch_changes_nothing_and_keeps_no_slot(resident: Model, hosted: Model, device: FakeDevice) -> None:
    stream = one(resident, initial_stream(resident, "exact"), chunk(9, 0)).stream
    before = row_of(resident, stream).tobytes()
    pool = slots_of(resident)
    free = pool.free
    device.failure = ArtifactError("the graph failed")
    for _ in range(3):
        with pytest.raises(ArtifactError):
            ENGINE.run(resident, "exact", [Work(stream, chunk(20, 1), False)] * 3)
    device.failure = None
    assert pool.free == free
    assert row_of(resident, stream).tobytes() == before
    expected = one(hosted, one(hosted, initial_stream(hosted, "exact"), chunk(9, 0)).stream, chunk(20, 1))
    assert same((resident, one(resident, stream, chunk(20, 1))), (hosted, expected))


def test_slots_come_back_when_sessions_end(resident: Model, device: FakeDevice) -> None:
    pool = slots_of(resident)
    streams = [one(resident, initial_stream(resident, "exact"), chunk(5, n)).stream for n in range(10)]
    free = pool.free
    used = device.used
    for _ in range(50):
        streams = [one(resident, stream, chunk(5, 1)).stream for stream in streams]
        assert pool.free == free
    streams.clear()
    assert pool.free == free + 10
    assert device.used == used


@pytest.mark.usefixtures("four_slots")
def test_full_memory_is_an_overload_that_passes(models: Path) -> None:
    # two blocks, and what batches work in
    device = FakeDevice(capacity=2 * 4 * ROW_BYTES + 2 * ROW_BYTES)
    model = ModelCatalog(models, load=load_fake, device=device).get()
    fresh = initial_stream(model, "exact")
    open_streams = [one(model, fresh, chunk(5, n)).stream for n in range(7)]
    before = [row_of(model, stream).tobytes() for stream in open_streams]
    with pytest.raises(Overloaded, match="the memory of a fake GPU is full") as caught:
        one(model, fresh, chunk(5, 9))
    assert caught.value.retry_after_s > 0
    with pytest.raises(Overloaded):
        one(model, open_streams[0], chunk(5, 9))
    assert [row_of(model, stream).tobytes() for stream in open_streams] == before
    ended = open_streams.pop()
    del ended
    open_streams[0] = one(model, open_streams[0], chunk(5, 9)).stream
    open_streams.append(one(model, fresh, chunk(5, 9)).stream)


@pytest.mark.usefixtures("four_slots")
def test_scattered_slots_serve_a_batch(models: Path, hosted: Model) -> None:
    device = FakeDevice()
    model = ModelCatalog(models, load=load_fake, device=device).get()
    open_streams = [one(model, initial_stream(model, "exact"), chunk(5, n)).stream for n in range(7)]
    alone = [one(hosted, initial_stream(hosted, "exact"), chunk(5, n)).stream for n in range(7)]
    for who in (5, 3, 1):
        del open_streams[who], alone[who]
    batch = ENGINE.run(model, "exact", [Work(stream, chunk(6, 0), False) for stream in open_streams[:3]])
    expected = ENGINE.run(hosted, "exact", [Work(stream, chunk(6, 0), False) for stream in alone[:3]])
    assert device.copied_rows == 6  # gathered, and to their slots
    assert len(memory_of(model)._blocks) == 2  # no other block
    assert all(same((model, a), (hosted, b)) for a, b in zip(batch, expected, strict=True))


@pytest.mark.usefixtures("four_slots")
def test_a_batch_may_be_larger_than_a_block(models: Path, hosted: Model) -> None:
    model = ModelCatalog(models, load=load_fake, device=FakeDevice()).get()
    works = [[Work(initial_stream(m, "exact"), chunk(9, n), False) for n in range(11)] for m in (model, hosted)]
    got, expected = ENGINE.run(model, "exact", works[0]), ENGINE.run(hosted, "exact", works[1])
    assert all(same((model, a), (hosted, b)) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize(
    "touch",
    [np.asarray, np.array, lambda row: np.stack([row]), lambda row: row[0], lambda row: row.copy()],
    ids=["asarray", "array", "stack", "index", "copy"],
)
def test_a_row_cannot_be_taken_for_an_array(resident: Model, touch: Callable[[Any], Any]) -> None:
    row = initial_stream(resident, "exact").network
    assert isinstance(row, DeviceRow)
    assert row.nbytes == ROW_BYTES
    with pytest.raises((TypeError, AttributeError)):
        touch(row)


def test_a_model_that_goes_gives_its_memory_back(models: Path, device: FakeDevice) -> None:
    model = ModelCatalog(models, load=load_fake, device=device).get()
    stream = one(model, initial_stream(model, "exact"), chunk(5, 0)).stream
    assert device.used
    del model
    gc.collect()
    assert device.used == 0
    del stream  # its pool is still there


@given(
    taken=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    dropped=st.lists(st.integers(0, 60), max_size=40),
)
def test_the_pool_gives_no_slot_twice(taken: Sequence[int], dropped: Sequence[int]) -> None:
    pool = SlotPool()
    pool.add(0, 20)
    pool.add(21, 20)
    out: set[int] = set()
    for count in taken:
        free = pool.free
        slots = pool.take(count)
        assert (slots is None) == (free < count)
        if slots is not None:
            assert len(slots) == count
            assert slots == sorted(slots)
            assert not out & set(slots)
            assert 20 not in slots
            out |= set(slots)
        for slot in dropped[: count % 5]:
            if slot in out:
                out.discard(slot)
                pool.give(slot)
    assert pool.free == 40 - len(out)


def test_a_run_of_slots_is_found_where_there_is_one() -> None:
    pool = SlotPool()
    pool.add(0, 10)
    pool.take(10)
    for slot in (0, 2, 3, 5, 6, 7):
        pool.give(slot)
    assert pool.take(3) == [5, 6, 7]
    assert pool.take(2) == [2, 3]
    pool.give(4)
    assert pool.take(2) == [0, 4]
    assert pool.take(1) is None


def memory_of(model: Model) -> DeviceMemory:
    memory = model.states("exact")
    assert isinstance(memory, DeviceMemory)
    return memory


def slots_of(model: Model) -> SlotPool:
    return memory_of(model)._pool
