"""Public data sets by the names of their files: SSC, SHD, Speech Commands, MNIST."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from hetsyn_model.training.config import load_config
from hetsyn_model.training.datasets.data import DataError, Recording
from hetsyn_model.training.datasets.examples import Examples, Series, SpikeStream
from hetsyn_model.training.datasets.read_idx import read_idx_images
from hetsyn_model.training.datasets.readers import kind_of, read
from hetsyn_model.training.fitting import fit
from hetsyn_model.training.prepared import Prepared, prepare
from tests.support.data.data_sets import (
    idx,
    write_heidelberg,
    write_mnist,
    write_speech_commands,
    write_ssc,
)

AUDIO, SPIKES, VALUES = load_config("audio"), load_config("spikes"), load_config("values")


def parts(examples: Examples) -> Counter[str]:
    return Counter(examples.parts or ())


def sizes(prepared: Prepared) -> tuple[int, int, int]:
    return len(prepared.data.real), len(prepared.data.validation), len(prepared.test)


def test_ssc_has_35_classes_and_files_of_its_own_to_validate_and_test(tmp_path: Path) -> None:
    folder = write_ssc(tmp_path / "ssc")
    assert kind_of(folder) == "spikes"
    found = read(folder, SPIKES)
    assert (found.labels, found.channels) == (tuple(str(n) for n in range(35)), 700)
    assert parts(found) == {"train": 140, "validation": 70, "test": 70}
    prepared = prepare(found, SPIKES)
    assert (sizes(prepared), prepared.by, prepared.spec.outputs) == ((140, 70, 70), "own", 35)
    alone = read(folder / "ssc_train.h5", SPIKES)
    assert alone.parts is None
    for mine, other in zip(found.items, alone.items, strict=False):
        assert isinstance(mine, SpikeStream)
        assert isinstance(other, SpikeStream)
        assert (mine.label, mine.length) == (other.label, other.length)
        assert np.array_equal(mine.units, other.units)


def test_shd_has_no_file_to_validate_so_speakers_of_the_training_file_do(tmp_path: Path) -> None:
    # a class that the test file lacks, and names
    write_heidelberg(tmp_path / "shd_train.h5", [0, 1, 2] * 8, speakers=[n // 3 for n in range(24)])
    write_heidelberg(tmp_path / "shd_test.h5", [2, 0], speakers=[8, 9])
    prepared = prepare(read(tmp_path, SPIKES), SPIKES)
    assert prepared.labels == ("word-0", "word-1", "word-2")
    assert [item.label for item in prepared.test] == [2, 0]
    groups = [{item.group for item in part} for part in (prepared.data.real, prepared.data.validation)]
    assert groups[1]
    assert groups[0] | groups[1] == {str(n) for n in range(8)}
    assert not groups[0] & groups[1]


def test_speech_commands_lists_say_what_validates_and_tests(tmp_path: Path) -> None:
    folder = write_speech_commands(tmp_path / "commands")
    found = read(folder, AUDIO)
    assert (found.kind, found.labels) == ("audio", ("down", "up"))
    prepared = prepare(found, AUDIO)
    assert sizes(prepared) == (8, 2, 2)
    assert {item.group for item in prepared.data.validation} == {"00000005"}
    assert {item.group for item in prepared.test} == {"00000004"}
    assert all(isinstance(item, Recording) and item.audio.size == 2000 for item in found.items)  # 16 to 8 kHz


@pytest.mark.parametrize(("packed", "mark"), [(True, "-"), (False, "-"), (False, ".")])
def test_mnist_files_are_series_of_rows_or_pixels(tmp_path: Path, packed: bool, mark: str) -> None:
    folder = write_mnist(tmp_path / "mnist", packed=packed, mark=mark)
    assert kind_of(folder) == "values"
    rows = read(folder, VALUES)
    pixels = read(folder, load_config({"encoder": {"values": {"scan": "pixel"}}}, "values"))
    assert (rows.channels, pixels.channels, rows.labels) == (28, 1, tuple("0123456789"))
    assert parts(rows) == parts(pixels) == {"train": 60, "test": 20}
    images, labels = read_idx_images(folder, "train")
    for index in (0, 7):
        row, pixel = rows.items[index], pixels.items[index]
        assert isinstance(row, Series)
        assert isinstance(pixel, Series)
        assert np.array_equal(np.rint(row.values * 255).astype(np.uint8), images[index])
        assert np.array_equal(pixel.values.ravel(), row.values.ravel())
        assert row.label == labels[index]
    prepared = prepare(rows, VALUES)
    assert sizes(prepared)[2] == 20
    assert sizes(prepared)[0] + sizes(prepared)[1] == 60


QUICK = {
    "network": {"hidden": [24]},
    "training": {"epochs": 5, "batch": 8, "learning_rate": 1e-2, "average": 0.8},
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("write", "kind", "goal"),
    [
        (lambda path: write_ssc(path, classes=3, each=6), "spikes", 0.8),
        (lambda path: write_mnist(path), "values", 0.8),
    ],
)
def test_one_call_trains_and_tests_as_the_data_say(
    tmp_path: Path, write: Callable[[Path], Path], kind: str, goal: float
) -> None:
    fitted = fit(write(tmp_path / "data"), config=QUICK | {"base": kind}, out=tmp_path / "run")
    assert fitted.test is not None
    assert fitted.test.exact is not None
    assert fitted.test.exact >= goal
    assert fitted.test.examples == {"spikes": 18, "values": 20}[kind]


def test_left_out_groups_and_test_data_take_the_place_of_the_datas_own_test(tmp_path: Path) -> None:
    found = read(write_speech_commands(tmp_path / "commands"), AUDIO)
    left_out = prepare(found, AUDIO, leave_out=["00000000"])
    used = (*left_out.data.real, *left_out.data.validation)
    assert {item.group for item in left_out.test} == {"00000000"}
    # neither the group nor the examples that test are trained on
    assert {item.group for item in used} == {f"0000000{number}" for number in (1, 2, 3, 5)}
    other = prepare(found, AUDIO, test=found)
    assert len(other.test) == len(found.items)
    assert {item.group for item in (*other.data.real, *other.data.validation)} == {
        f"0000000{number}" for number in (0, 1, 2, 3, 5)
    }


def test_another_division_is_a_choice(tmp_path: Path) -> None:
    found = read(write_speech_commands(tmp_path / "commands"), AUDIO)
    by_group = prepare(found, load_config({"split": {"by": "group"}}, "audio"))
    assert by_group.by == "group"
    assert sum(sizes(by_group)) == len(found.items)
    path = write_heidelberg(tmp_path / "a.h5", [0, 1] * 4)
    own = load_config({"split": {"by": "own"}}, "spikes")
    with pytest.raises(DataError, match="the data do not say which examples validate and test: use 'auto'"):
        prepare(read(path, SPIKES), own)


def break_heidelberg(folder: Path, how: str) -> None:
    write_ssc(folder, classes=3)
    if how == "two":
        shutil.copy(folder / "ssc_train.h5", folder / "shd_train.h5")
    elif how == "no test":
        (folder / "ssc_test.h5").unlink()
    elif how == "packed":
        (folder / "ssc_train.h5").rename(folder / "ssc_train.h5.gz")
    elif how == "images too":
        (folder / "train-images-idx3-ubyte").touch()
    elif how == "sound too":
        (folder / "yes").mkdir()
        (folder / "yes/a_nohash_0.wav").touch()
    elif how == "empty":
        with h5py.File(folder / "ssc_test.h5", "a") as file:
            for name in ("spikes/times", "spikes/units", "labels"):
                del file[name]
                file[name] = np.zeros(0, "u2")
    elif how == "damaged":
        content = bytearray((folder / "ssc_test.h5").read_bytes())
        at = content.index(b"TREE")  # the root's table of names
        content[at : at + 4] = b"EERT"
        (folder / "ssc_test.h5").write_bytes(content)
    else:
        write_heidelberg(folder / "ssc_test.h5", [0, 1, 5])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("two", "has shd_train.h5 and ssc_train.h5: give each data set a folder of its own"),
        ("no test", "has ssc_train.h5, but no ssc_test.h5: add it, or give the file alone"),
        ("packed", "ssc_train.h5.gz: is compressed: unpack the files of this folder first"),
        ("class", "ssc_test.h5: label '5' is not one of "),
        ("images too", "has spikes in SHD's form and MNIST's files: give each data set a folder of its own"),
        ("sound too", "has spikes in SHD's form and recordings: give each data set a folder of its own"),
        ("empty", "ssc_test.h5: has no examples: download it again"),
        ("damaged", "ssc_test.h5: cannot be read (Unable to synchronously open object"),
    ],
)
def test_files_that_do_not_belong_together_are_one_sentence(tmp_path: Path, how: str, message: str) -> None:
    break_heidelberg(tmp_path / "ssc", how)
    with pytest.raises(DataError) as error:
        read(tmp_path / "ssc", SPIKES)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("testing_list.txt", None, "has validation_list.txt, but no testing_list.txt: give both lists, or neither"),
        ("testing_list.txt", "up/none.wav\n", "testing_list.txt: names no recording of the folder"),
        ("testing_list.txt", "up/00000005_nohash_0.wav\n", "up/00000005_nohash_0.wav is in both lists: keep it in one"),
        ("validation_list.txt", b"\xff\xfe", "validation_list.txt: cannot be read as lines of class/file.wav"),
    ],
)
def test_wrong_lists_are_one_sentence(tmp_path: Path, name: str, content: str | bytes | None, message: str) -> None:
    folder = write_speech_commands(tmp_path / "commands")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        read(folder, AUDIO)
    assert message in str(error.value)


def test_a_list_with_a_byte_order_mark_names_its_first_recording_too(tmp_path: Path) -> None:
    folder = write_speech_commands(tmp_path / "commands")
    before = read(folder, AUDIO).parts
    path = folder / "testing_list.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(folder, AUDIO).parts == before


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode on this system")
def test_a_name_that_is_not_utf8_is_one_sentence(tmp_path: Path) -> None:
    folder = write_speech_commands(tmp_path / "commands")
    shutil.copy(folder / "up/00000001_nohash_0.wav", folder / "up" / os.fsdecode(b"\xff_nohash_0.wav"))
    with pytest.raises(DataError, match="the name is not in UTF-8: rename the file"):
        read(folder, AUDIO)


IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx_head(*shape: int) -> bytes:
    return bytes((0, 0, 8, len(shape))) + np.array(shape, ">u4").tobytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (LABELS, None, "has no t10k-labels-idx1-ubyte, compressed or not"),
        (LABELS, idx(np.zeros(19, np.uint8)), "20 images, but 19 labels in t10k"),
        (LABELS, idx(np.zeros((20, 1), np.uint8)), "t10k-labels-idx1-ubyte: not an IDX file of bytes with 1 axis"),
        (IMAGES, idx(np.zeros((20, 28, 28), np.uint8))[:-5], "has 15675 values, but 15680 by its head"),
        (IMAGES, b"", "not an IDX file of bytes with 3 axes"),
        (IMAGES, gzip.compress(bytes(9000))[:20], "t10k-images-idx3-ubyte: cannot be read"),
        (IMAGES, idx_head(2**31, 2**31, 4), "has 18446744073709551616 values by its head, above 1,000,000,000"),
        (IMAGES, gzip.compress(idx_head(1, 1, 1) + bytes(1 << 20)), "has more than 1 values, but 1 by its head"),
        (IMAGES, idx(np.zeros((20, 14, 28), np.uint8)), "images of 14 x 28 and 28 x 28 pixels"),
    ],
    ids=["missing", "fewer labels", "axes", "cut off", "empty", "gzip", "overflow", "unpacks to more", "sizes"],
)
def test_wrong_images_are_one_sentence(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    folder = write_mnist(tmp_path / "mnist", packed=False)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        read(folder, VALUES)
    assert message in str(error.value)


def test_a_class_that_only_the_test_has_is_one_sentence(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path / "mnist", packed=False)
    (folder / LABELS).write_bytes(idx(np.full(20, 10, np.uint8)))
    with pytest.raises(DataError, match="class '10' has no training examples"):
        prepare(read(folder, VALUES), VALUES)
