"""The libraries of zig, and of g++ if it is installed: the same bits on every level of the processor, and no name shown
but ours."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_DT_FLAGS_1

from build_support.compiling import LIBRARIES, OPERATORS, ROLLOUT, Compiler, compile_library, installed_compiler, zig
from hetsyn_model import Network, NetworkSpec, native
from tests.support.networks.processor_levels import NO_LEVELS, processor_levels
from tests.support.paths import ROOT
from tests.support.required_tools import TOOLS_INSTALLED
from tests.support.tools import NO_ZIG

pytestmark = pytest.mark.process

if importlib.util.find_spec("ziglang") is None:
    pytest.skip(NO_ZIG, allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("builds")


def compilers() -> dict[str, Compiler]:
    installed = installed_compiler()
    assert installed or not os.environ.get(TOOLS_INSTALLED), "CI compares zig with g++"
    return {"zig": zig("x86_64")} | ({"g++": installed} if installed else {})


def digests(library: Path, level: str) -> dict[str, str]:
    command = [sys.executable, "-m", "tests.support.networks.operator_digests", str(library)]
    environment = os.environ | {"HETSYN_KERNEL": level}
    process = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(process.stdout)
    return found


def test_all_builds_and_levels_give_the_same_bits(folder: Path) -> None:
    """Compare every shipped model's golden streams and its encoder."""
    if not processor_levels():
        pytest.skip(NO_LEVELS)
    found: dict[str, dict[str, str]] = {}
    for name, compiler in compilers().items():
        library = folder / f"{name}_network.so"
        compile_library(OPERATORS, compiler, library)
        found |= {f"{name} {level}": digests(library, level) for level in processor_levels()}
    first, *others = found.values()
    assert len(first) >= 9
    assert others
    assert all(other == first for other in others), found


def test_all_builds_and_levels_of_the_rollout_give_the_same_bits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not processor_levels():
        pytest.skip(NO_LEVELS)
    made = Network(NetworkSpec(channels=20, hidden=(13, 9), outputs=4), seed=5).double()
    with torch.no_grad():
        for layer in made.layers:
            layer.get_parameter("w_in").mul_(3.0)
    spikes = (torch.rand(5, 40, 20, generator=torch.Generator().manual_seed(0)) < 0.12).double()
    readouts, gradients = [], []
    for name, compiler in compilers().items():
        library = folder / f"{name}_rollout.so"
        compile_library(ROLLOUT, compiler, library)
        for level in processor_levels():
            loaded = native.Library(library)
            loaded.level = level
            monkeypatch.setattr(native, "library", lambda loaded=loaded: loaded)
            made.zero_grad()
            rolled = made.rollout(spikes, "bank")
            rolled.readout.square().mean().backward()
            readouts.append(rolled.readout.detach())
            gradients.append([p.grad.clone() for p in made.parameters() if p.grad is not None])
    assert readouts[0].any()
    assert readouts[1:]
    for readout, gradient in zip(readouts[1:], gradients[1:], strict=True):
        assert torch.equal(readouts[0], readout)
        for a, b in zip(gradients[0], gradient, strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("machine", ["x86_64", pytest.param("aarch64", marks=pytest.mark.long)])
def test_a_library_of_zig_runs_on_any_linux_and_shows_its_own_names_alone(machine: str, folder: Path) -> None:
    for library in LIBRARIES:
        built = folder / machine / Path(library.output).name
        compile_library(library, zig(machine), built)
        with built.open("rb") as file:
            elf: Any = ELFFile(file)
            exported = {
                symbol.name
                for symbol in elf.get_section_by_name(".dynsym").iter_symbols()
                if symbol["st_shndx"] != "SHN_UNDEF"
                and symbol["st_info"]["bind"] in ("STB_GLOBAL", "STB_WEAK")
                and symbol["st_other"]["visibility"] == "STV_DEFAULT"
            }
            tags = list(elf.get_section_by_name(".dynamic").iter_tags())
            versions = {
                auxiliary.name
                for _, used in elf.get_section_by_name(".gnu.version_r").iter_versions()
                for auxiliary in used
            }
        if library is OPERATORS:
            assert "RegisterCustomOps" in exported
        assert "hetsyn_kernel" in exported
        assert all(name.startswith("hetsyn_") for name in exported - {"RegisterCustomOps"}), exported
        assert {tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"} <= {
            "libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1",
        }  # fmt: skip
        glibc = {tuple(map(int, name.removeprefix("GLIBC_").split("."))) for name in versions}
        assert max(glibc) <= (2, 17)
        (flags,) = [tag.entry.d_val for tag in tags if tag.entry.d_tag == "DT_FLAGS_1"]
        assert flags & ENUM_DT_FLAGS_1["DF_1_NODELETE"]
