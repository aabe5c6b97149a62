"""Commands of setuptools that build the C++ libraries, copy the default model, and name the wheel."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import ClassVar

from setuptools import Command
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

from build_support.compiling import (
    LIBRARIES,
    ROOT,
    TARGET,
    BuildError,
    Compiler,
    choose_compiler,
    compile_library,
    mode,
)
from build_support.shipped_models import FOLDER, shipped_files


class Build(build):  # type: ignore[misc]
    sub_commands: ClassVar = [*build.sub_commands, ("build_native", None), ("build_models", None)]


class BuildNative(Command):  # type: ignore[misc]
    """Builds the libraries, in the tree for an editable installation."""

    description = "build the C++ libraries"
    user_options: ClassVar[list[tuple[str, str, str]]] = []

    def initialize_options(self) -> None:
        self.build_lib: str | None = None
        self.editable_mode = False
        self.compiler: Compiler | None = None  # that has built them

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        self._remove_outputs()  # of an earlier build
        if mode() == "off":
            return
        try:
            compiler = choose_compiler()
            for library, output in zip(LIBRARIES, self.get_outputs(), strict=True):
                self.announce(f"{' '.join(compiler.command)}: {library.output}", level=2)
                compile_library(library, compiler, Path(output))
            self.compiler = compiler
        except BuildError as error:
            self._remove_outputs()  # one of the two would be in a wheel for any platform
            if mode() == "require" or os.environ.get(TARGET):
                raise
            self.warn(f"the C++ libraries are not built, plain ONNX and plain torch run instead: {error}")

    def _remove_outputs(self) -> None:
        for output in self.get_outputs():
            Path(output).unlink(missing_ok=True)

    def get_source_files(self) -> list[str]:
        return [path for library in LIBRARIES for path in (library.baseline, library.by_level)]

    def get_outputs(self) -> list[str]:
        base = ROOT if self.editable_mode else Path(str(self.build_lib))
        return [str(base / library.output) for library in LIBRARIES]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class BuildModels(Command):  # type: ignore[misc]
    """Copies the default model into the package. An editable installation has a link to all models."""

    description = "copy the default model"
    user_options: ClassVar[list[tuple[str, str, str]]] = []

    def initialize_options(self) -> None:
        self.build_lib: str | None = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        if self.editable_mode:
            return
        shutil.rmtree(Path(str(self.build_lib)) / FOLDER, ignore_errors=True)  # of an earlier build
        for source, output in zip(self.get_source_files(), self.get_outputs(), strict=True):
            self.mkpath(str(Path(output).parent))
            self.copy_file(str(ROOT / source), output, preserve_mode=False)

    def get_source_files(self) -> list[str]:
        return list(shipped_files().values())

    def get_outputs(self) -> list[str]:
        return [] if self.editable_mode else [str(Path(str(self.build_lib)) / name) for name in shipped_files()]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class PlatformWheel(bdist_wheel):  # type: ignore[misc]
    """One wheel for all Pythons: the libraries are loaded, not imported."""

    def finalize_options(self) -> None:
        if mode() != "off":
            self.distribution.has_ext_modules = lambda: True  # the libraries' folder is that of compiled modules
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        compiler = self.get_finalized_command("build_native").compiler
        return "py3", "none", "any" if compiler is None else compiler.platform_tag
