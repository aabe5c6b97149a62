"""Which compiler a build takes, what it asks PyPI for, and what happens where there is none."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from setuptools.dist import Distribution

from build_support import compiling
from build_support.commands import BuildNative
from build_support.compiling import ZIG, BuildError, choose_compiler, compile_library, mode, requirements
from tests.support.paths import ROOT
from tests.support.tools import NO_COMPILER, cpp_compiler

ON_LINUX = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="of a build on x86-64 Linux"
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CXX", "CXXFLAGS", compiling.MODE, compiling.TARGET):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a compiler."""
    monkeypatch.setattr(shutil, "which", lambda _: None)


@ON_LINUX
@pytest.mark.usefixtures("bare")
def test_zig_is_required_where_there_is_no_compiler() -> None:
    assert requirements() == [ZIG]
    assert choose_compiler().platform_tag == "manylinux_2_17_x86_64"


def test_a_compiler_that_fails_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For example a g++ without its headers."""
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiling.installed_compiler() is None


@ON_LINUX
def test_a_compiler_that_works_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    working = tmp_path / "my-compiler"
    working.write_text("#!/bin/sh\ncat > /dev/null\n")
    working.chmod(0o755)
    monkeypatch.setenv("CXX", str(working))
    assert choose_compiler().command == (str(working),)
    assert choose_compiler().platform_tag == "linux_x86_64"
    assert requirements() == []


def test_a_wheel_for_another_processor_is_zigs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiling.TARGET, "aarch64")
    compiler = choose_compiler()
    assert compiler.platform_tag == "manylinux_2_17_aarch64"
    assert list(compiler.levels) == ["generic"]
    assert requirements() == [ZIG]


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_get_plain_onnx(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert requirements() == []
    with pytest.raises(BuildError, match=f"for Linux, not for {system}"):
        choose_compiler()


@pytest.mark.parametrize(("variable", "value"), [(compiling.MODE, "on"), (compiling.TARGET, "riscv64")])
def test_an_unknown_word_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BuildError, match=f"{variable}={value}"):
        mode() if variable == compiling.MODE else choose_compiler()


def test_an_error_of_the_compiler_is_in_the_message(tmp_path: Path) -> None:
    failing = tmp_path / "compiler"
    failing.write_text("#!/bin/sh\necho 'the source is wrong' >&2; exit 1\n")
    failing.chmod(0o755)
    compiler = compiling.Compiler((str(failing),), "x86_64", is_zig=False)
    output = tmp_path / "library.so"
    with pytest.raises(BuildError, match="the source is wrong"):
        compile_library(compiling.OPERATORS, compiler, output)
    assert not output.exists()


@pytest.mark.process
@pytest.mark.skipif(cpp_compiler() is None, reason=NO_COMPILER)
@pytest.mark.parametrize("source", [compiling.OPERATORS.baseline, compiling.OPERATORS.by_level])
def test_the_operator_compiles_without_a_warning(source: str, tmp_path: Path) -> None:
    warnings = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wsign-conversion", "-Werror")
    options = ("-std=c++17", "-fPIC", *warnings, "-DHETSYN_LEVEL=v2", f"-I{ROOT / 'build_support'}")
    # an object, and not -fsyntax-only: with that, zig warns of an option of its own
    output = ("-c", str(ROOT / source), "-o", str(tmp_path / "object.o"))
    subprocess.run([*(cpp_compiler() or ()), *options, *output], check=True)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BuildNative:
    """The build on a machine where no compiler works, after a build that succeeded."""
    monkeypatch.setattr("build_support.commands.choose_compiler", refuse)
    made = BuildNative(Distribution())
    made.ensure_finalized()
    made.build_lib = str(tmp_path)
    for output in map(Path, made.get_outputs()):
        output.parent.mkdir(parents=True)
        output.write_bytes(b"of an earlier build")
    return made


def refuse() -> compiling.Compiler:
    raise BuildError("there is no compiler")


def test_without_a_compiler_the_libraries_are_left_out(command: BuildNative) -> None:
    command.run()
    assert command.compiler is None
    assert not any(Path(output).exists() for output in command.get_outputs())


def test_of_two_libraries_none_is_left_if_one_fails(command: BuildNative, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a wheel for any platform would have a library for one."""

    def compile_one(library: compiling.Library, _: compiling.Compiler, output: Path) -> None:
        if library is compiling.ROLLOUT:
            raise BuildError("no memory")
        output.write_bytes(b"built")

    monkeypatch.setattr("build_support.commands.choose_compiler", lambda: compiling.zig("x86_64"))
    monkeypatch.setattr("build_support.commands.compile_library", compile_one)
    command.run()
    assert command.compiler is None
    assert not any(Path(output).exists() for output in command.get_outputs())


@pytest.mark.parametrize(("variable", "value"), [(compiling.MODE, "require"), (compiling.TARGET, "riscv64")])
def test_a_build_that_is_required_fails(
    command: BuildNative, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BuildError, match="there is no compiler"):
        command.run()


def test_a_build_that_is_switched_off_removes_what_was_built(
    command: BuildNative, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(compiling.MODE, "off")
    command.run()
    assert not any(Path(output).exists() for output in command.get_outputs())
