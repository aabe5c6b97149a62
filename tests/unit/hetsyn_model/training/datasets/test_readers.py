"""Every door for data: what is read, and one sentence for what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from hetsyn_model.training.config import load_config
from hetsyn_model.training.datasets.data import DataError, Recording
from hetsyn_model.training.datasets.examples import Examples, Series, SpikeStream, indexed
from hetsyn_model.training.datasets.read_arrays import as_arrays, examples_of
from hetsyn_model.training.datasets.readers import kind_of, read
from tests.support.data.data import (
    CLASSES,
    series_arrays,
    spike_arrays,
    tone_folder,
    write_pcm,
    write_series_csv,
    write_shd_form,
)
from tests.support.data.words import write_words

AUDIO, SPIKES, VALUES = load_config("audio"), load_config("spikes"), load_config("values")


def recordings(examples: Examples) -> list[Recording]:
    return [item for item in examples.items if isinstance(item, Recording)]


def streams(examples: Examples) -> list[SpikeStream]:
    return [item for item in examples.items if isinstance(item, SpikeStream)]


def series(examples: Examples) -> list[Series]:
    return [item for item in examples.items if isinstance(item, Series)]


def test_a_folder_of_classes(tmp_path: Path) -> None:
    folder = tone_folder(tmp_path / "tones", 3, rate_hz=16000)
    (folder / "_background_").mkdir()
    (folder / ".git").mkdir()
    (folder / "README.md").write_text("tones")
    found = read(folder, AUDIO)
    assert (found.kind, found.labels) == ("audio", ("high", "low", "middle"))
    assert [item.label for item in recordings(found)] == [0] * 3 + [1] * 3 + [2] * 3
    assert {item.audio.size for item in recordings(found)} == {16000 // 6 // 2}  # resampled to 8 kHz
    assert {item.group for item in recordings(found)} == {""}


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("anna_3.wav", "anna"),
        ("0a7c_nohash_1.wav", "0a7c"),
        ("tom-2_12.wav", "tom-2"),
        ("take.wav", ""),
        ("1.WAV", ""),
        ("tom_1.WAV", "tom"),
    ],
)
def test_file_names_tell_the_speaker(name: str, group: str, tmp_path: Path) -> None:
    for label in CLASSES:
        (tmp_path / label).mkdir()
        write_pcm(tmp_path / label / name, np.full(100, 0.1))
    assert {item.group for item in recordings(read(tmp_path, AUDIO))} == {group}


def test_a_folder_of_names_with_speakers_and_takes(tmp_path: Path) -> None:
    found = read(write_words(tmp_path / "words", ("anna", "bert")), load_config("speech-digits"))
    assert found.labels == tuple("0123456789")
    assert {(item.speaker, item.take) for item in recordings(found)} == {
        (s, t) for s in ("anna", "bert") for t in (0, 1)
    }


def test_spikes_in_shds_form(tmp_path: Path) -> None:
    spikes, labels = spike_arrays()
    found = read(write_shd_form(tmp_path / "a.h5"), SPIKES)
    assert (found.kind, found.labels, found.channels) == ("spikes", CLASSES, 12)
    assert [item.label for item in streams(found)] == labels.tolist()
    for item, dense in zip(streams(found), spikes, strict=True):
        rows = np.zeros_like(dense)
        rows[item.steps, item.units] = True
        assert np.array_equal(rows, dense)
        assert item.length == dense.any(1).nonzero()[0].max() + 1
    assert {item.group for item in streams(found)} == {"0", "1", "2", "3"}
    assert read(write_shd_form(tmp_path / "b.h5", keys=False), SPIKES).labels == ("0", "1", "2")


def test_longer_steps_and_cut_streams(tmp_path: Path) -> None:
    path = write_shd_form(tmp_path / "a.h5")
    coarse = load_config(
        {"encoder": {"spikes": {"step_s": 0.02, "longest_s": 0.06}}, "network": {"channels": 20}}, "spikes"
    )
    found = read(path, coarse)
    assert (found.channels, found.is_guess) == (20, False)
    assert (read(path, SPIKES).channels, read(path, SPIKES).is_guess) == (12, True)
    assert {item.length for item in streams(found)} <= {1, 2, 3}
    for item in streams(found):  # a channel fires at most once a step
        assert len({(int(s), int(u)) for s, u in zip(item.steps, item.units, strict=True)}) == item.steps.size


def test_a_multiple_of_the_step_begins_a_step() -> None:
    times = np.arange(1000) * 0.003
    assert (np.floor(times / 0.003) != np.arange(1000)).any()  # where rounding would put it into the step before
    arrays = {"times": times, "units": np.zeros(1000, int), "offsets": np.array([0, 500, 1000]), "labels": [0, 1]}
    config = load_config({"encoder": {"spikes": {"step_s": 0.003}}}, "spikes")
    found = streams(examples_of({name: np.asarray(array) for name, array in arrays.items()}, config, "mine"))
    assert np.array_equal(np.concatenate([item.steps for item in found]), np.arange(1000))


def test_arrays_of_events_and_dense_spikes_are_the_same_streams(tmp_path: Path) -> None:
    spikes, labels = spike_arrays()
    example, step, unit = np.nonzero(spikes)
    counts = np.bincount(example, minlength=len(labels))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    np.savez(tmp_path / "events.npz", times=step * 4e-3, units=unit, offsets=offsets, labels=labels)
    np.savez(tmp_path / "dense.npz", spikes=spikes.astype(np.uint8), labels=labels, label_names=CLASSES)
    events, dense = read(tmp_path / "events.npz", SPIKES), read(tmp_path / "dense.npz", SPIKES)
    assert (events.labels, dense.labels) == (("0", "1", "2"), CLASSES)
    for a, b in zip(streams(events), streams(dense), strict=True):
        assert np.array_equal(a.steps, b.steps)
        assert np.array_equal(a.units, b.units)
        assert b.length == 25


def test_series_from_csv_and_arrays_are_the_same(tmp_path: Path) -> None:
    values, labels = series_arrays()
    table = read(write_series_csv(tmp_path / "a.csv"), VALUES)
    names = [CLASSES[label] for label in labels]
    lengths = [len(each) for each in values]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    np.savez(tmp_path / "ragged.npz", values=np.concatenate(values), offsets=offsets, labels=names)
    padded = np.zeros((len(values), max(lengths), 2))
    for row, each in zip(padded, values, strict=True):
        row[: len(each)] = each
    np.savez(tmp_path / "padded.npz", values=padded, steps=lengths, labels=names)
    ragged, dense = read(tmp_path / "ragged.npz", VALUES), read(tmp_path / "padded.npz", VALUES)
    assert table.labels == ragged.labels == dense.labels == tuple(sorted(CLASSES))
    assert (table.channels, {item.group for item in table.items}) == (2, {"p0", "p1", "p2", "p3"})
    for a, b, c in zip(series(table), series(ragged), series(dense), strict=True):
        assert a.label == b.label == c.label
        assert np.array_equal(b.values, c.values)
        assert np.allclose(a.values, b.values, atol=1e-4)


def test_labels_are_sorted_numbers_by_value() -> None:
    assert indexed([10, 9, 2, 10]) == ([2, 1, 0, 2], ("2", "9", "10"))
    assert indexed(["b", "a"]) == ([1, 0], ("a", "b"))


@pytest.mark.parametrize(
    ("name", "kind"), [("a.h5", "spikes"), ("a.HDF5", "spikes"), ("a.csv", "values"), ("a", "audio")]
)
def test_the_name_tells_the_kind(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "a":
        path.mkdir()
    else:
        path.touch()
    assert kind_of(path) == kind


def folder_with(tmp_path: Path, *names: str) -> Path:
    for name in names:
        path = tmp_path / name
        if name.endswith(".wav"):
            path.parent.mkdir(exist_ok=True)
            write_pcm(path, np.full(100, 0.1))
        else:
            path.mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "contains no recordings: give a folder of class/*.wav, a folder of label_speaker_take.wav"),
        (("yes/1.wav", "no"), "class 'no' has no wav files: add some, or delete the folder"),
        (("yes/1.wav", "a_b_1.wav"), "contains both wav files and folders"),
        (
            ("hello.wav",),
            "hello.wav: the name is not label_speaker_take.wav: rename it, or make a folder for each class",
        ),
    ],
)
def test_a_folder_without_an_order_is_one_sentence(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read(folder_with(tmp_path, *names), AUDIO)
    assert message in str(error.value)


def test_a_recording_that_is_too_long_is_one_sentence(tmp_path: Path) -> None:
    folder = tone_folder(tmp_path / "tones", 1)
    write_pcm(folder / "low/long.wav", np.zeros(1_608_000))
    with pytest.raises(DataError, match="a recording has 201 s: cut recordings into pieces of at most 200 s"):
        read(folder, AUDIO)


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "not a regular expression"), (r"\d+", r"has no part \(\?P<group>")]
)
def test_a_wrong_pattern_is_one_sentence(pattern: str, message: str, tmp_path: Path) -> None:
    folder = tone_folder(tmp_path / "tones", 1)
    with pytest.raises(DataError, match=message):
        read(folder, load_config({"split": {"group_pattern": pattern}}, "audio"))


@pytest.mark.parametrize(("name", "what"), [("none.csv", "file"), ("none", "folder")])
def test_nothing_there_is_one_sentence(name: str, what: str) -> None:
    with pytest.raises(DataError, match=f"{name}: no such {what}$"):
        kind_of(Path(name))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "the first line is not a header: series,label"),
        ("series,label\na,b\n", "the first line is not a header"),
        ("series,label,group\na,b,c\n", "the first line is not a header"),
        ("series,label,x\n", "contains no rows below its header"),
        ("series,label,x\na,b,1,2\n", "line 2 has 4 columns, but the header has 3"),
        ("series,label,x\na,b,1\na,b,one\n", "line 3: 'one' in column 'x' is not a number"),
        ("series,label,x\na,b,nan\n", "line 2: 'nan' in column 'x' is not a finite number"),
        ("series,label,x\na,b,1e39\n", "not a finite number"),
        ("series,label,x\na,b,1\na,c,1\n", "line 3: series 'a' has another label or group than before"),
        ("series,label,x\na,,1\n", "series 'a' has no label"),
        ("series,label,x\nb,1,1\nb,2,1\n", "the first column, 'series', is the series, the second, 'label', its label"),
        ("series;label;x\na;b;1\n", "with commas between the columns"),
        ("a,b,1,0.5\na,b,2,0.5\n", "the first line has numbers for names of channels: put a header above it"),
        ('series,label,x\na,b,"1,5"\n', "'1,5' in column 'x' is not a number: give one with a point"),
        ("s,l,x\n\xff\xfe,b,1\n", "cannot be read as CSV"),
        ("s,l,x\na,gr\xfcn,1\n", "save it in UTF-8"),
    ],
)
def test_a_wrong_row_is_one_sentence(rows: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(rows.encode("latin-1"))
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.csv", VALUES)
    assert message in str(error.value)


def test_channels_may_be_named_by_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("series,label,0,1\na,b,1,2\nc,d,1,2\n")
    assert read(tmp_path / "a.csv", VALUES).channels == 2


GOOD: dict[str, Any] = {
    "times": np.array([0.0, 0.1]),
    "units": np.array([0, 1]),
    "offsets": np.array([0, 1, 2]),
    "labels": np.array(["a", "b"]),
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "has no labels"),
        ({"units": None}, "has times but no units"),
        ({"offsets": None}, "has no offsets"),
        ({"times": None}, "it needs labels, and times, units and offsets"),
        ({"labels": np.array(["a"])}, "2 examples in offsets, but 1 labels: give each example one label"),
        ({"labels": np.array([["a"], ["b"]])}, "labels has the shape (2, 1)"),
        ({"offsets": np.array([0, 2, 1])}, "offsets do not go up from 0 to 2"),
        ({"units": np.array([0.0, 1.5])}, "example 1: units[0] is 1.5, which is not a whole number"),
        ({"times": np.array(["a", "b"])}, "example 0: times and units, <U1 [1] and int64 [1], are not numbers"),
        ({"units": np.array([0, 1_000_000])}, "example 1 has a unit that is not below 1,000,000"),
        ({"labels": np.array([0.0, np.nan])}, "the label of example 1 is not a number"),
        ({"units": np.array([0, -1])}, "example 1: units[0] is -1: units are channel numbers from 0"),
        ({"units": np.array([0])}, "are not one list each"),
        ({"times": np.array([0.0, np.nan])}, "example 1: a time is not finite, or below 0"),
        ({"times": np.array([0.0, 900.0])}, "save steps as integers and seconds as floats, or take longer steps"),
        ({"steps": np.array([1, 0])}, "steps are not whole numbers from 1 to 100000"),
        ({"groups": np.array(["x"])}, "1 examples in groups, but 2 labels"),
        ({"label_names": np.array(["x"])}, "labels are not numbers from 0 to 0"),
        ({"times": None, "spikes": np.full((2, 3, 1), 2)}, "spikes has entries other than 0 and 1"),
        ({"times": None, "spikes": np.ones((2, 3))}, "spikes has the shape (2, 3): give [examples, steps, channels]"),
        (
            {"times": None, "spikes": np.ones((2, 3, 1)), "steps": np.array([4, 1])},
            "steps are not whole numbers from 1",
        ),
        ({"values": np.array([[[1.0], [np.nan]], [[1.0], [2.0]]])}, "example 0 has nan at step 1, channel 0: replace"),
        ({"values": np.array([[1.0], [np.inf]])}, "example 1 has inf at step 0"),
        ({"values": np.ones((2, 1)), "offsets": np.array([0, 0, 2])}, "example 0 has no rows"),
        ({"values": np.array([["a"], ["b"]])}, "values are <U1: give numbers"),
    ],
)
def test_wrong_arrays_are_one_sentence(changes: dict[str, Any], message: str) -> None:
    arrays = {name: array for name, array in (GOOD | changes).items() if array is not None}
    with pytest.raises(DataError) as error:
        examples_of(arrays, SPIKES, "a.npz")
    assert message in str(error.value)
    assert str(error.value).startswith("a.npz: ")


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"no")
    np.savez(tmp_path / "objects.npz", labels=np.array(["a", None], object), spikes=np.ones((2, 1, 1)))
    np.save(tmp_path / "one.npy", np.ones((2, 1)))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    (tmp_path / "a.h5").write_bytes(b"no")
    (tmp_path / "a.txt").write_text("no")
    for name, message in (
        ("a.npz", r"a\.npz: cannot be read as npz \(.*\): write it with numpy"),
        ("objects.npz", r"objects\.npz: cannot be read as npz \(.*allow_pickle.*\): write it with numpy"),
        ("one.npz", r"one\.npz: has no labels"),
        ("a.h5", r"a\.h5: cannot be read \(.*\): give a whole HDF5 file in the form of SHD"),
        ("a.txt", "not data that hetsyn trains on: give a folder of class"),
    ):
        with pytest.raises(DataError, match=message):
            read(tmp_path / name, SPIKES)


def test_wrong_hdf5_is_one_sentence(tmp_path: Path) -> None:
    path = write_shd_form(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["labels"]
        file["labels"] = np.array([0, 1], "u2")
    with pytest.raises(DataError, match="2 entries in labels, but 36 in spikes/times"):
        read(path, SPIKES)
    with h5py.File(path, "a") as file:
        del file["labels"]
        file["labels"] = np.full(36, 7, "u2")
    with pytest.raises(DataError, match="labels are not numbers from 0 to 2, one for each of extra/keys"):
        read(path, SPIKES)
    for labels in (np.full(36, 1.0), np.full(36, b"low")):
        with h5py.File(path, "a") as file:
            del file["labels"]
            file["labels"] = labels
        with pytest.raises(DataError, match="one for each of extra/keys"):
            read(path, SPIKES)
    with pytest.raises(DataError, match=r"unit 11 is beyond network.channels = 4"):
        read(write_shd_form(tmp_path / "b.h5"), load_config({"network": {"channels": 4}}, "spikes"))


def test_labels_in_bytes_are_texts(tmp_path: Path) -> None:
    path = write_shd_form(tmp_path / "a.h5", keys=False)
    with h5py.File(path, "a") as file:
        names = np.array(CLASSES)[file["labels"][:]].astype("S")
        del file["labels"]
        file["labels"] = names
    assert read(path, SPIKES).labels == tuple(sorted(CLASSES))
    assert examples_of(GOOD | {"labels": np.array([b"a", b"b"])}, SPIKES, "a.npz").labels == ("a", "b")


def test_dense_spikes_are_cut_and_padded_as_configured() -> None:
    arrays = {"spikes": np.ones((2, 10, 3), bool), "labels": np.array([0, 1])}
    config = load_config(
        {"encoder": {"spikes": {"step_s": 0.004, "longest_s": 0.016}}, "network": {"channels": 5}}, "spikes"
    )
    found = examples_of(arrays, config, "mine")
    assert (found.channels, found.is_guess) == (5, False)
    assert not examples_of(arrays, SPIKES, "mine").is_guess
    assert [(item.length, int(item.steps.max())) for item in streams(found)] == [(4, 3)] * 2
    few = load_config({"network": {"channels": 2}}, "spikes")
    with pytest.raises(DataError, match=r"unit 2 is beyond network\.channels = 2"):
        examples_of(arrays, few, "mine")


def test_a_long_file_is_cut_before_its_steps_are_too_many() -> None:
    longest = load_config({"encoder": {"spikes": {"step_s": 0.004, "longest_s": 1.0}}}, "spikes")
    times = np.array([0.0, 0.01, 900.0, 0.5], np.float16)
    arrays: dict[str, NDArray[Any]] = {
        "times": times,
        "units": np.arange(4),
        "offsets": np.array([0, 3, 4]),
        "labels": np.array([0, 1]),
    }
    found = streams(examples_of(arrays, longest, "mine"))
    assert [(item.length, item.steps.tolist()) for item in found] == [(3, [0, 2]), (126, [125])]


def test_classes_are_checked() -> None:
    values, labels = series_arrays()
    one = examples_of(as_arrays(values, labels * 0, None), VALUES, "mine")
    with pytest.raises(DataError, match="mine: all 36 examples are of class '0': a classifier needs two"):
        one.check_classes()
    named = as_arrays(values, labels, None) | {"label_names": np.array([*CLASSES, "other"])}
    with pytest.raises(DataError, match="class 'other' has no examples: add some, or leave the class out"):
        examples_of(named, VALUES, "mine").check_classes()
    named["label_names"] = np.array(["a", "b", "a"])
    with pytest.raises(DataError, match="mine: two classes are named 'a': give each a name of its own"):
        examples_of(named, VALUES, "mine").check_classes()


def test_other_data_must_have_the_same_classes_and_channels() -> None:
    values, labels = series_arrays()
    mine = examples_of(as_arrays(values, labels, None), VALUES, "mine")
    other = examples_of(as_arrays(values, labels + 1, None), VALUES, "other")
    with pytest.raises(DataError, match="other: label '3' is not one of mine: 0, 1, 2"):
        other.as_of(mine)
    narrow = examples_of(as_arrays([each[:, :1] for each in values], labels, None), VALUES, "narrow")
    with pytest.raises(DataError, match="narrow: has 1 channels, but mine has 2"):
        narrow.as_of(mine)
    spikes = examples_of(as_arrays(*spike_arrays(), None), SPIKES, "spikes")
    with pytest.raises(DataError, match="spikes: contains spikes, but mine contains values"):
        spikes.as_of(mine)
    part = examples_of(as_arrays(values[1:3], labels[1:3], None), VALUES, "part").as_of(mine)
    assert [item.label for item in part.items] == [1, 2]
