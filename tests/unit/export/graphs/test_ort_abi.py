"""Our declaration of ONNX Runtime's ABI against its own header, where that is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from service.runtime import operators
from tests.support.paths import SUPPORT
from tests.support.tools import NO_COMPILER, NO_HEADER, cpp_compiler

pytestmark = pytest.mark.process

OURS = Path(operators.__file__).parent / "ort/ort_abi.hpp"
FOLDERS = [Path("/usr/include/onnxruntime"), Path("/usr/local/include/onnxruntime")]
HEADERS = next((folder for folder in FOLDERS if (folder / "onnxruntime_c_api.h").exists()), None)

COMPILER = cpp_compiler()

if COMPILER is None:
    pytest.skip(NO_COMPILER, allow_module_level=True)
if HEADERS is None:
    pytest.skip(NO_HEADER, allow_module_level=True)


def compare(folder: Path, scratch: Path) -> subprocess.CompletedProcess[str]:
    """Compile the comparison with ``ort_abi.hpp`` of this folder."""
    assert COMPILER is not None
    check = ["-c", str(SUPPORT / "networks/ort_abi_check.cpp"), "-o", str(scratch / "check.o")]
    command = [*COMPILER, "-std=c++17", f"-isystem{HEADERS}", f"-I{folder}", *check]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_function_word_and_constant_is_the_headers(tmp_path: Path) -> None:
    process = compare(OURS.parent, tmp_path)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    ("ours", "altered", "found"),
    [
        ("skipped_66[19]", "skipped_66[20]", "KernelInfoGetAttribute_float"),
        ("int16 = 5", "int16 = 4", "ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16"),
        ("    void (*destroy_kernel)(void* kernel);\n", "", "GetInputCharacteristic"),
    ],
    ids=["function", "constant", "word"],
)
def test_a_difference_is_found(tmp_path: Path, ours: str, altered: str, found: str) -> None:
    text = OURS.read_text()
    assert ours in text
    (tmp_path / OURS.name).write_text(text.replace(ours, altered))
    process = compare(tmp_path, tmp_path)
    assert process.returncode
    assert found in process.stderr


def test_every_function_is_compared() -> None:
    check = (SUPPORT / "networks/ort_abi_check.cpp").read_text()
    names = [line.split("(*")[1].split(")")[0] for line in OURS.read_text().splitlines() if "(*" in line]
    ours = [name for name in names if name != "work"]
    assert len(ours) > 40
    assert [name for name in ours if f"({name}, " not in check and f"ApiBase, {name})" not in check] == []
