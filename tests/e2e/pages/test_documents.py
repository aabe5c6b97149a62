"""Every command of a block ``sh`` and every Python block of the pages runs as written, but for ports and folders.

A block ``shell``, and a block ``python`` under a comment ``not run``, is not run: the comment says why.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from tests.support.artifacts.leaky_values import write_leaky
from tests.support.clients.json_input import Json
from tests.support.data.data_sets import write_mnist, write_speech_commands
from tests.support.paths import DOCS, MODELS, RECORDINGS, ROOT, SPEECH
from tests.support.repository.documents import (
    ANSWERS,
    OWN_NETWORKS,
    PAGES,
    README,
    blocks,
    commands,
    name_of,
    prose,
    typed,
)
from tests.support.servers.server_process import free_port, wait_until_ready
from tests.support.stores.valkey import BINARY, MISSING, ValkeyServer
from tests.support.tools import NO_WATCH

pytestmark = pytest.mark.process

RUN = (
    r"make demo$|\. \.venv/bin/activate$|hetsyn (serve|keys|train|export|import-nir|inspect|stream|record|run|bench)\b|"
    r"python (-P )?-m (service\.runtime\.operators$|research(\.tasks\.smartwatch)? )|python examples/|"
    r"(curl|head|tail|printf|openssl|cp|kill|umask) |(type|url)="
)
SHORTER = {
    r"^(hetsyn train words .*)$": r"\1 --epochs 20 --threads 1",
    r"^(hetsyn train (?!words).*)$": r"\1 --epochs 1",
    r"^(hetsyn bench\b.*)$": r"\1 --duration-s 0.5 --warmup-s 0",
    r"^make demo$": "python examples/demo.py",
    r"^\. \.venv/bin/activate$": "true",  # the tests' environment stands for it
    r"\bcurl ": "curl --silent --show-error --fail-with-body ",
}
# what a command needs, and what to say where it is missing
NEEDS = {
    r"\bcurl ": (shutil.which("curl"), "no curl: apt-get install curl"),
    r"research\.tasks\.smartwatch |watch\.npz|runs/watch/": (find_spec("seglearn"), NO_WATCH),
    r"\bopenssl ": (shutil.which("openssl"), "no openssl: apt-get install openssl"),
    r"valkey://": (BINARY, MISSING),
}


class PageServer:
    """``hetsyn serve`` in the background, on a port of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "hetsyn", "serve", *options, "--port", str(self.port)]
        self._log = (folder / f"serve-{self.port}.log").open("w+")
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )

    def __enter__(self) -> PageServer:
        try:
            wait_until_ready(self.url, self.process)
        except AssertionError as error:
            self.process.kill()
            self._log.seek(0)
            raise AssertionError(f"{error}: {self._log.read()}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self._log.close()
        assert code in (0, -signal.SIGTERM)


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class PageReader:
    """Somebody who types what the pages say, in a folder that looks like a checkout.

    Attributes:
        folder: the working directory.
        missing: why commands could not be run, and how many for each reason.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self._done: set[str] = set()
        self.missing: Counter[str] = Counter()
        for name in ("docs", "examples", "benchmarks", "research"):
            (folder / name).symlink_to(ROOT / name)
        # without what a reader of the pages may have made already
        shutil.copytree(MODELS, folder / "models", ignore=shutil.ignore_patterns("words", "[3-9]"))
        write_leaky(folder / "models", "sensor", channels=3)  # as the page of the HTTP interface has it
        (folder / "carry.keys").write_text("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
        self._data_sets(folder / "data")
        self._next_version()
        self._server, self._second = (
            stack.enter_context(PageServer(folder, "--carry-keys", "carry.keys")) for _ in range(2)
        )
        echo = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
        stack.callback(echo.server_close)
        stack.callback(echo.shutdown)
        threading.Thread(target=echo.serve_forever, daemon=True).start()
        self._ports = {8000: self._server.port, 8001: self._second.port, 9000: echo.server_port}

    @staticmethod
    def _data_sets(data: Path) -> None:
        """Small files in the form of the data sets that a reader may have."""
        data.mkdir()
        write_speech_commands(data / "speech_commands")
        write_mnist(data / "mnist")

    def _next_version(self) -> None:
        """``build/speech-digits/3``, what an export of a third version leaves."""
        build = self.folder / "build/speech-digits/3"
        shutil.copytree(SPEECH, build)
        manifest = json.loads((build / "manifest.json").read_text())
        (build / "manifest.json").write_text(json.dumps(manifest | {"version": "3"}))

    def here(self, text: str) -> str:
        """A command or a program with this folder's servers in place of the pages' ones."""
        for port, own in self._ports.items():
            text = re.sub(rf"\b(localhost|127\.0\.0\.1):{port}\b", rf"127.0.0.1:{own}", text)
        return text.replace("$PWD", str(self.folder))

    def type(self, script: str) -> str:
        """Run a shell block: what is not a server as one script, then each server until it is ready.

        Returns:
            what the script printed.
        """
        lines: list[str] = []
        servers: list[str] = []
        for command in commands(script):
            assert re.match(RUN, command), f"no command that a test runs; is its block ```shell? {command}"
            lacking = [text for pattern, (there, text) in NEEDS.items() if re.search(pattern, command) and not there]
            if lacking:
                self.missing[lacking[0]] += 1
            elif command.startswith("hetsyn ") and command in self._done:
                continue
            else:
                (servers if command.startswith("hetsyn serve") else lines).append(command)
                self._done.add(command)
        printed = self._run("\n".join(lines)) if lines else ""
        for name, version in re.findall(r"^hetsyn export .* --out models/([\w.-]+)/([\w.-]+)$", "\n".join(lines), re.M):
            self._wait_for(name, version)
        for command in servers:
            self._serve(command)
        return printed

    def _run(self, script: str) -> str:
        for pattern, shorter in SHORTER.items():
            script = re.sub(pattern, shorter, script, flags=re.MULTILINE)
        return typed(
            self.here(script),
            self.folder,
            HETSYN_URL=self._server.url,
            COLUMNS="200",
        )

    def _wait_for(self, name: str, version: str) -> None:
        """Have the first server offer a model that was exported after its start."""
        if (self.folder / "models" / name / version).exists():
            deadline_s = time.monotonic() + 60
            while version not in self.versions(name):
                assert time.monotonic() < deadline_s, f"the server did not take {name} {version}"
                time.sleep(0.1)

    def _serve(self, command: str) -> None:
        options = shlex.split(self.here(command))[2:]
        with ExitStack() as stack:
            store = next((option for option in options if option.startswith("valkey://")), None)
            if store is not None:
                (self.folder / "valkey").mkdir(exist_ok=True)
                valkey = stack.enter_context(ValkeyServer(self.folder / "valkey"))
                options[options.index(store)] = f"valkey://127.0.0.1:{valkey.port}/0"
            server = stack.enter_context(PageServer(self.folder, *options))
            key = {}
            if "--keys" in options:
                key["Authorization"] = f"Bearer {(self.folder / 'alice.key').read_text().strip()}"
            reply = httpx.post(
                f"{server.url}/infer",
                params={"end": True},
                content=(RECORDINGS / "seven.wav").read_bytes(),
                headers={"Content-Type": "audio/wav", **key},
            )
            assert reply.status_code == 200, reply.text

    def versions(self, model: str) -> list[str]:
        """Which versions the first server offers."""
        listed = httpx.get(f"{self._server.url}/models").json()["models"]
        return [version for each in listed if each["name"] == model for version in each["versions"]]

    def python(self, program: str, where: str) -> None:
        program = self.here(program).replace("duration_s=10", "duration_s=0.5")
        exec(compile(program, where, "exec"), {"__name__": "__page__"})


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageReader]:
    with ExitStack() as stack:
        yield PageReader(tmp_path_factory.mktemp("checkout"), stack)


def read(page: Path, reader: PageReader, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a page from top to bottom; what its shell blocks print."""
    monkeypatch.chdir(reader.folder)
    printed = []
    for block in blocks(page, ANSWERS if page == OWN_NETWORKS else ()):
        if block.language == "sh":
            printed.append(reader.type(block.code))
        elif block.language == "python" and block.is_run:
            reader.python(block.code, name_of(page))
    return "".join(printed)


def replies(printed: str) -> dict[str, Json]:
    """The replies to chunks among what commands printed, by session."""
    found = {}
    for match in re.finditer(r'(?={"session")', printed):
        reply, _ = json.JSONDecoder().raw_decode(printed, match.start())
        found[reply["session"]] = reply
    return found


def compare_sample_reply(page: Path, printed: str, *, is_whole: bool) -> None:
    """The sample reply of a page is what the page's commands got: the same fields, and values up to the first ``…``."""
    (sample,) = (
        json.loads(block.code) for block in blocks(page) if block.language == "json" and '"session"' in block.code
    )
    got = replies(printed)
    if not is_whole and sample["session"] not in got:
        return
    reply = got[sample["session"]]
    assert list(sample) == list(reply)
    for name, shown in sample.items():
        if name == "version":
            continue  # the server has a third one if sessions.md came first
        if isinstance(shown, list):
            *first, rest = shown
            assert rest == "…"
            assert reply[name][: len(first)] == (pytest.approx(first, abs=5e-5) if name == "probabilities" else first)
        else:
            assert reply[name] == shown, name


MAIN = (
    README,
    DOCS / "reference/http-api.md",
    DOCS / "reference/client.md",
    DOCS / "guides/sessions.md",
    DOCS / "guides/keys.md",
)


@pytest.mark.parametrize(
    "page",
    [page if page in MAIN else pytest.param(page, marks=pytest.mark.long) for page in PAGES if blocks(page)],
    ids=name_of,
)
def test_a_page_does_what_it_says(
    page: Path, reader: PageReader, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing_before = reader.missing.total()
    printed = read(page, reader, monkeypatch)
    shown = capsys.readouterr().out
    is_whole = reader.missing.total() == missing_before
    if page == README:
        assert "seven.wav: seven" in printed
        assert shown.startswith("seven ")
        compare_sample_reply(page, printed, is_whole=is_whole)
        if is_whole:
            first, _ = json.JSONDecoder().raw_decode(printed, printed.index('{"session":"curl"'))
            heard = dict(zip(first["labels"], first["probabilities"], strict=True))
            least = json.loads((MODELS / "speech-digits/2/manifest.json").read_text())["acceptance_threshold"]
            assert (
                f"The first names `{first['label']}` at {heard['seven']:.0%} although `unknown` has "
                f"{heard['unknown']:.0%}: `label` is the likeliest digit [from {least:.0%} on]("
            ) in " ".join(prose(page).split())
    elif page.name == "model.md":
        assert "torch.Size([4, 20])" in shown
    elif page.name == "http-api.md":
        assert shown.splitlines()[0] == "25"
        assert printed.count('"probabilities"') == 9 or not is_whole
        compare_sample_reply(page, printed, is_whole=is_whole)
    elif page.name == "tutorial.md":
        assert printed.count(": 20 new recordings") == 5
        assert re.search(r"^test, .* examples: (9\d|100)\.", printed, re.MULTILINE)
        assert "standard input: three three three (words 1)" in printed
        assert re.findall(r"s: (.*)", shown) == ["three", "three"]
    elif page.name == "sessions.md":
        assert printed.count('"label":"seven"') >= 2  # the chunk, and the session that another server continues
        deadline_s = time.monotonic() + 60
        while "3" not in reader.versions("speech-digits"):
            assert time.monotonic() < deadline_s, "the server did not take the new version"
            time.sleep(0.1)


def test_no_command_was_left_out_because_a_tool_is_missing(reader: PageReader) -> None:
    if reader.missing:
        pytest.skip(
            "; ".join(f"{count} commands of the pages did not run: {why}" for why, count in reader.missing.items())
        )


def test_make_demo_is_what_is_run_for_it() -> None:
    assert re.search(r"^demo: .*\n\t\$\(BIN\)/python examples/demo\.py$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert (DOCS / "recordings/seven.wav").exists()


def test_the_operator_is_looked_up_in_the_installation_and_not_in_the_checkout(tmp_path: Path) -> None:
    """A checkout has no libraries if it was installed without ``-e``."""
    (tmp_path / "service").mkdir()
    (tmp_path / "service/__init__.py").write_text("raise ImportError('this is not the installation')")
    scripts = [command for block in blocks(DOCS / "guides/install.md") for command in commands(block.code)]
    command = next(script for script in scripts if script.endswith("service.runtime.operators"))
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("operator: "), done.stderr
