"""The ``hetsyn`` command as a user runs it, in processes of their own: what is imported is the point."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import hetsyn
from hetsyn_client.extras import install_command
from tests.support.artifact import write_artifact


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


def test_help_has_a_line_for_each_subcommand_and_imports_nothing() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name, subcommand in hetsyn.SUBCOMMANDS.items():
        assert name in done.stdout
        assert subcommand.help.split()[0] in done.stdout
    assert done.stdout.rstrip().endswith("imported:")


def test_public_names_are_those_of_their_modules_and_imported_when_used() -> None:
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


def test_version() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith(f"hetsyn {hetsyn.version()}")


def test_a_subcommand_has_its_own_help() -> None:
    done = run("serve", "--help", without=("torch",))
    assert done.returncode == 0
    assert "Usage: hetsyn serve" in done.stdout
    assert "--default-model" in done.stdout


def test_arguments_reach_the_subcommand(tmp_path: Path) -> None:
    write_artifact(tmp_path)
    done = run("inspect", str(tmp_path / "digits"), "--json", without=("torch", "onnxruntime"))
    assert done.returncode == 0, done.stderr
    assert '"state_bytes"' in done.stdout
    assert done.stdout.rstrip().endswith("imported:")


def test_an_error_of_ours_is_one_line(tmp_path: Path) -> None:
    done = run("inspect", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("hetsyn: ")
    assert "Traceback" not in done.stderr


def test_a_wrong_option_is_explained_by_the_subcommand() -> None:
    done = run("stream", "--nonsense")
    assert done.returncode == 2
    assert "--nonsense" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("train", "speech-digits", "--data", "x"), ("export", "shd-size", "--out", "x/1"), ("experiment", "speech")],
    ids=lambda arguments: arguments[0],
)
def test_a_missing_dependency_names_its_extra(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, without=("torch", "onnx"))
    assert done.returncode == 2
    assert f"hetsyn: this needs torch: {install_command('train')}" in done.stderr
    assert "Traceback" not in done.stderr


def leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and its subcommands, by the words that call them."""
    yield words, command
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from leaves(subcommand, (*words, name))


COMMANDS = {
    words: command
    for name, subcommand in hetsyn.SUBCOMMANDS.items()
    for words, command in leaves(
        typer.main.get_command(getattr(importlib.import_module(subcommand.module), name.replace("-", "_"))), (name,)
    )
}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_needs_no_dependency_and_is_whole_at_80_columns(words: tuple[str, ...]) -> None:
    done = run(*words, "--help", without=hetsyn.OPTIONAL)
    assert done.returncode == 0, done.stderr
    help_text, _, imported = done.stdout.rpartition("imported:")
    assert not imported.strip()
    assert max(map(len, help_text.splitlines())) <= 80
    assert "…" not in help_text
    assert "completion" not in help_text
    shown = set(help_text.split())
    command = COMMANDS[words]
    texts = [command.help, *(each.help for each in command.params if not getattr(each, "hidden", False))]
    for text in filter(None, texts):
        assert set(text.split()) <= shown, text


def test_serve_explains_a_missing_runtime(tmp_path: Path) -> None:
    write_artifact(tmp_path)
    done = run("serve", "--models", str(tmp_path), without=("torch", "onnxruntime"))
    assert done.returncode == 1
    # its metadata is still there, as after a broken uninstall; the plain case is in service/runtime/test_onnx.py
    assert "its module is not there: pip uninstall" in done.stderr
    assert install_command("cpu") in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_names_the_extra_of_carried_sessions(tmp_path: Path) -> None:
    write_artifact(tmp_path / "models")
    (tmp_path / "keys").write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    options = ["--models", str(tmp_path / "models"), "--carry-keys", str(tmp_path / "keys")]
    done = run("serve", *options, without=("torch", "cryptography"))
    assert done.returncode == 2
    assert f"this needs cryptography: {install_command('carried')}" in done.stderr


@pytest.mark.parametrize("missing", ["hdrh", "matplotlib"])
def test_bench_names_its_extra_before_it_asks_any_server(missing: str, tmp_path: Path) -> None:
    done = run("bench", "http://127.0.0.1:1", "--html", str(tmp_path / "x.html"), without=("torch", missing))
    assert done.returncode == 2
    assert f"this needs {missing}: {install_command('bench')}" in done.stderr
    assert done.stdout.rstrip().endswith("imported:")
