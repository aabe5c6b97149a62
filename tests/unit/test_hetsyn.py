"""The ``hetsyn`` command as a user runs it; in processes of their own where what is imported is the point."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import hetsyn
from hetsyn_client.extras import install_command
from tests.support.artifacts.artifact import write_artifact
from tests.support.paths import ROOT


def run(*arguments: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """``hetsyn ARGUMENTS`` in a Python that lacks some modules; prints the heavy modules that it imported."""
    code = (
        f"import sys; sys.modules |= dict.fromkeys({without!r}); sys.argv = ['hetsyn', *{arguments!r}]\n"
        "import hetsyn\n"
        "try: hetsyn.main()\n"
        "finally: print('imported:', *(n for n in ('torch', 'onnxruntime', 'fastapi') if sys.modules.get(n)))"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``hetsyn ARGUMENTS`` in this process: its exit status, output and errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hetsyn", *arguments])
        with pytest.raises(SystemExit) as ended:
            hetsyn.main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return call


def test_public_names_are_those_of_their_modules() -> None:
    for name in hetsyn.__all__:
        assert name in dir(hetsyn)
        assert getattr(hetsyn, name).__module__.partition(".")[0] in (
            "hetsyn",
            "hetsyn_model",
            "hetsyn_client",
            "export",
        )
    with pytest.raises(AttributeError, match="no attribute 'Netwrok'"):
        hetsyn.Netwrok  # noqa: B018


@pytest.mark.process
def test_a_public_name_imports_its_module_when_it_is_used() -> None:
    code = (
        "import sys, hetsyn\n"
        "print(*(name in sys.modules for name in ('torch', 'hetsyn_model', 'export')))\n"
        "from hetsyn import StreamingClient\n"
        "print(StreamingClient.__name__, 'torch' in sys.modules, 'service' in sys.modules)\n"
        "from hetsyn import Network, NetworkSpec\n"
        "print(type(Network(NetworkSpec(channels=3, hidden=(2,), outputs=2))).__module__, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [
        "False False False",
        "StreamingClient False False",
        "hetsyn_model.network True",
    ]


def test_version(here: Callable[..., tuple[int, str, str]]) -> None:
    code, output, _ = here("--version")
    assert (code, output) == (0, f"hetsyn {hetsyn.version()}\n")


@pytest.mark.process
def test_arguments_reach_the_subcommand(tmp_path: Path) -> None:
    write_artifact(tmp_path)
    done = run("inspect", str(tmp_path / "digits"), "--json", without=("torch", "onnxruntime"))
    assert done.returncode == 0, done.stderr
    assert '"state_bytes"' in done.stdout
    assert done.stdout.rstrip().endswith("imported:")


def test_an_error_of_ours_is_one_line(tmp_path: Path, here: Callable[..., tuple[int, str, str]]) -> None:
    code, _, errors = here("inspect", str(tmp_path))
    assert code == 2
    assert errors.startswith("hetsyn: ")
    assert "Traceback" not in errors


def test_a_wrong_option_is_explained_by_the_subcommand(here: Callable[..., tuple[int, str, str]]) -> None:
    code, _, errors = here("stream", "--nonsense")
    assert code == 2
    assert "--nonsense" in errors


@pytest.mark.process
@pytest.mark.parametrize(
    "arguments",
    [("train", "x", "--out", "y"), ("export", "shd-size", "--out", "x/1")],
    ids=lambda arguments: arguments[0],
)
def test_a_missing_dependency_names_its_extra(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, without=("torch", "onnx"))
    assert done.returncode == 1
    assert f"hetsyn: this needs torch: {install_command('train')}" in done.stderr
    assert "Traceback" not in done.stderr


def leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and its subcommands, by the words that call them."""
    yield words, command
    for name, subcommand in getattr(command, "commands", {}).items():
        if not subcommand.hidden:
            yield from leaves(subcommand, (*words, name))


def every_command() -> dict[tuple[str, ...], Any]:
    return {
        words: command
        for name, subcommand in hetsyn.SUBCOMMANDS.items()
        for words, command in leaves(
            typer.main.get_command(getattr(importlib.import_module(subcommand.module), name.replace("-", "_"))), (name,)
        )
    }


HELP_OF_ALL = """
import contextlib, io, json, sys
heavy = "torch", "onnxruntime", "fastapi"
without, commands = json.load(sys.stdin)
sys.modules |= dict.fromkeys(without)
import hetsyn
found = []
for words in commands:
    sys.argv, output = ["hetsyn", *words, "--help"], io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        hetsyn.main()
    found.append((output.getvalue(), [name for name in heavy if sys.modules.get(name)]))
json.dump(found, sys.stdout)
"""


def test_help_needs_no_dependency_and_is_whole_at_80_columns() -> None:
    commands = {(): None, **every_command()}
    done = subprocess.run(
        [sys.executable, "-c", HELP_OF_ALL],
        input=json.dumps([hetsyn.OPTIONAL, list(commands)]),
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for (words, command), (text, imported) in zip(commands.items(), json.loads(done.stdout), strict=True):
        assert f"Usage: {' '.join(('hetsyn', *words))} " in text, words
        assert not imported, words
        assert max(map(len, text.splitlines())) <= 80, words
        assert "…" not in text, words
        assert ("completion" in text) is (not words), words  # of the whole command alone
        texts = [subcommand.help for subcommand in hetsyn.SUBCOMMANDS.values()]
        if command is not None:
            texts = [command.help, *(each.help for each in command.params if not getattr(each, "hidden", False))]
        shown = set(text.split())
        for part in filter(None, texts):
            assert set(part.split()) <= shown, (words, part)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (("",), [*hetsyn.SUBCOMMANDS]),
        (("imp",), ["import-nir", "import-onnx"]),
        (("--ver",), ["--version"]),
        (("serve", "--grpc"), ["--grpc-port"]),
        (("keys", "ro"), ["rotate"]),
        (("keys", "add", "--max"), ["--max-sessions"]),
        (("stream", "docs/recordings", "--js"), ["--json"]),
        (("run", "speech"), ["speech-commands", "speech-digits"]),
        (("run", "--models", "no-models", "speech"), []),
        (("run", "speech-digits", "--one"), ["--one-word"]),
    ],
)
def test_a_shell_completes_commands_options_and_models(
    here: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    typed: tuple[str, ...],
    offered: list[str],
) -> None:
    """By the protocol of bash's script."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("_HETSYN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(("hetsyn", *typed)))
    monkeypatch.setenv("COMP_CWORD", str(len(typed)))
    assert [line for line in here()[1].splitlines() if line] == offered


@pytest.mark.process
def test_bash_completes_after_its_script_was_read() -> None:
    """Nothing heavy is imported, not even for the options of a subcommand."""
    script = """eval "$(hetsyn --show-completion)"; _hetsyn() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        PYTHONPROFILEIMPORTTIME=1 _hetsyn_completion hetsyn; echo "${COMPREPLY[@]}"; }
        _hetsyn hetsyn ser; _hetsyn hetsyn serve --gr; _hetsyn hetsyn train --ou; :"""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["serve", "--grpc-port", "--out"]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "service.settings" in imported  # for the options of serve
    assert not imported & {"torch", "onnxruntime", "fastapi"}


@pytest.mark.process
def test_serve_explains_a_missing_runtime(tmp_path: Path) -> None:
    write_artifact(tmp_path)
    done = run("serve", "--models", str(tmp_path), "--port", "0", without=("torch", "onnxruntime"))
    assert done.returncode == 1
    # its metadata is still there, as after a broken uninstall; the plain case is in service/runtime/test_onnx.py
    assert "its module is not there: pip uninstall" in done.stderr
    assert install_command("cpu") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wheel_is_installed_again_with_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert install_command("cpu") == "pip install -e '.[cpu]' in the checkout of hetsyn"
    monkeypatch.setattr("hetsyn_client.extras.PROJECT", tmp_path / "pyproject.toml")
    assert install_command("cpu") == "pip install 'WHEEL[cpu]', with the path of hetsyn's wheel"
