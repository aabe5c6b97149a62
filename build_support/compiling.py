"""Compiles the two C++ libraries of hetsyn: ONNX Runtime's operators, and the rollout of training.

The compiler is g++ (or ``CXX``) where it works, else zig, which comes from PyPI as the package ``ziglang``. Neither
needs a header that does not come with it. ``python -m build_support --help`` builds one library by hand.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ZIG = "ziglang==0.17.*"
MODE = "HETSYN_OPERATORS"  # off builds nothing, require fails where nothing can be built
TARGET = "HETSYN_BUILD_TARGET"  # x86_64 or aarch64: build with zig for that processor and any Linux with glibc 2.17
GLIBC = (2, 17)
# no contraction: a fused multiply-add rounds once where torch and ONNX round twice
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-ffp-contract=off", "-fopenmp-simd", "-fvisibility=hidden", "-pthread")
# nodelete: ONNX Runtime closes the library before the process runs the destructors that zig's runtime registered
LINK_FLAGS = ("-shared", "-pthread", "-Wl,-z,nodelete")
PROBE = (
    "#include <string>\n#include <vector>\nint main() { return static_cast<int>(std::vector<std::string>().size()); }"
)


class BuildError(Exception):
    """A library cannot be built; the message says why."""


@dataclass(frozen=True)
class Library:
    """A shared library.

    Attributes:
        output: where it belongs, from the root of the tree.
        baseline: source that is compiled once, for the oldest processor.
        by_level: source that is compiled once for each level of the processor, with HETSYN_LEVEL as its name.
        exports: patterns of the symbols that it shows.
    """

    output: str
    baseline: str
    by_level: str
    exports: tuple[str, ...]


OPERATORS = Library(
    "service/runtime/operators/_network.so",
    "service/runtime/operators/register.cpp",
    "service/runtime/operators/kernels.cpp",
    ("RegisterCustomOps", "hetsyn_*"),
)
ROLLOUT = Library(
    "hetsyn_model/native/_rollout.so",
    "hetsyn_model/native/level.cpp",
    "hetsyn_model/native/rollout.cpp",
    ("hetsyn_*",),
)
LIBRARIES = (OPERATORS, ROLLOUT)


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler for one kind of processor.

    Attributes:
        command: the program and its leading arguments.
        machine: the processor, as ``platform.machine`` names it.
        is_zig: whether its libraries run on any Linux with glibc 2.17.
    """

    command: tuple[str, ...]
    machine: str
    is_zig: bool

    @property
    def levels(self) -> dict[str, tuple[str, ...]]:
        """The compiler's flags for each level of the processor, lowest first."""
        if self.machine != "x86_64":
            return {"generic": ()}
        if self.is_zig:
            # clang would use half of v4's registers, and put the addresses of a bank's rows in vectors, which is slower
            processors = {"v2": "x86_64_v2", "v3": "x86_64_v3", "v4": "x86_64_v4-prefer_256_bit"}
            return {level: (f"-mcpu={cpu}", "-fno-slp-vectorize") for level, cpu in processors.items()}
        return {level: (f"-march=x86-64-{level}",) for level in ("v2", "v3", "v4")}

    @property
    def platform_tag(self) -> str:
        """The platform of a wheel with its libraries."""
        return f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{self.machine}" if self.is_zig else f"linux_{self.machine}"


def mode() -> str:
    """Read the mode from the environment: ``auto``, ``off`` or ``require``.

    Raises:
        BuildError: it says something else.
    """
    value = os.environ.get(MODE) or "auto"
    if value not in ("auto", "off", "require"):
        raise BuildError(f"{MODE}={value}: off, require, or leave it out")
    return value


def zig(machine: str) -> Compiler:
    """Describe zig as a compiler for this processor."""
    target = f"{machine}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}"
    return Compiler((sys.executable, "-m", "ziglang", "c++", "-target", target), machine, is_zig=True)


def installed_compiler() -> Compiler | None:
    """Find the first compiler that works: ``CXX``, g++ or clang++. None if none does."""
    machine = platform.machine()
    for command in (shlex.split(os.environ.get("CXX", "")), ["g++"], ["clang++"]):
        if not command or shutil.which(command[0]) is None:
            continue
        compiler = Compiler(tuple(command), machine, is_zig=False)
        arguments = [*command, "-std=c++17", "-fsyntax-only", "-x", "c++", "-", *[*compiler.levels.values()][-1]]
        if subprocess.run(arguments, input=PROBE, text=True, capture_output=True, check=False).returncode == 0:
            return compiler
    return None


def choose_compiler() -> Compiler:
    """Choose the compiler for this build. Zig need not be installed yet.

    Raises:
        BuildError: there is none for this machine.
    """
    target = os.environ.get(TARGET)
    if target:
        if target not in ("x86_64", "aarch64"):
            raise BuildError(f"{TARGET}={target}: x86_64 or aarch64")
        return zig(target)
    if sys.platform != "linux":
        raise BuildError(f"hetsyn's libraries are for Linux, not for {sys.platform}")
    compiler = installed_compiler()
    if compiler is not None:
        return compiler
    if platform.machine() not in ("x86_64", "aarch64") or platform.libc_ver()[0] != "glibc":
        raise BuildError(f"there is no g++, and zig is not tried on {platform.machine()} without glibc")
    return zig(platform.machine())


def requirements() -> list[str]:
    """List what the build needs from PyPI beside setuptools: zig, if it is the compiler."""
    try:
        return [ZIG] if mode() != "off" and choose_compiler().is_zig else []
    except BuildError:
        return []  # the build itself says why


def compile_library(library: Library, compiler: Compiler, output: Path) -> None:
    """Compile and link a library. ``CXXFLAGS`` in the environment are added at the end.

    Raises:
        BuildError: the compiler fails.
    """
    if compiler.is_zig and importlib.util.find_spec("ziglang") is None:
        raise BuildError(f"there is no g++, and no zig either: pip install '{ZIG}'")
    extra = shlex.split(os.environ.get("CXXFLAGS", ""))
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as threads:
        parts: list[tuple[str, str, tuple[str, ...]]] = [(library.baseline, "baseline", ())]
        parts += [
            (library.by_level, level, (*flags, f"-DHETSYN_LEVEL={level}")) for level, flags in compiler.levels.items()
        ]

        def compile_part(part: tuple[str, str, tuple[str, ...]]) -> str:
            source, name, flags = part
            made = str(Path(scratch) / f"{name}.o")
            include = f"-I{ROOT / 'build_support'}"
            _run([*compiler.command, *FLAGS, *flags, include, *extra, "-c", str(ROOT / source), "-o", made])
            return made

        # In this order: of a function that several parts have (std::vector's, say) the linker takes the first, and so
        # one that every processor runs, or none that the lower levels call.
        objects = list(threads.map(compile_part, parts))
        exports = Path(scratch) / "exports"
        exports.write_text(f"{{ global: {'; '.join(library.exports)}; local: *; }};\n")
        script = f"-Wl,--version-script={exports}"
        output.parent.mkdir(parents=True, exist_ok=True)
        fresh = output.with_name(f".{output.name}.{os.getpid()}")  # a running server may have the old one mapped
        try:
            strip = [] if "-g" in extra else ["-s"]
            _run([*compiler.command, "-O3", *LINK_FLAGS, *strip, script, *extra, *objects, "-o", str(fresh)])
            fresh.replace(output)
        finally:
            fresh.unlink(missing_ok=True)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error}") from error
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{shlex.join(command)} failed:\n{error.stderr}") from error
