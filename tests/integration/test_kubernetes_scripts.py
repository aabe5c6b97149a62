"""The scripts of the base for Kubernetes, on nodes of the loopback: what the pods run."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.repository.kustomize import BASE
from tests.support.stores.valkey import ValkeyServer
from tests.support.tools import NO_VALKEY_CLI, require_valkey

PASSWORD = "a1b2"
NODES = 6
WITHIN_S = 60.0
BUS = 10_000  # from a node's port to that of its bus
pytestmark = [pytest.mark.process, pytest.mark.skipif(shutil.which("valkey-cli") is None, reason=NO_VALKEY_CLI)]


def free_ports(count: int) -> list[int]:
    """Ports that are free, as are those of their buses."""
    found: list[int] = []
    for port in range(20_000 + os.getpid() % 5_000, 40_000):
        with ExitStack() as stack:
            try:
                for number in (port, port + BUS):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


def variables(nodes: list[ValkeyServer]) -> dict[str, str]:
    return os.environ | {
        "REDISCLI_AUTH": PASSWORD, "NODES": " ".join(f"localhost:{node.port}" for node in nodes), "INTERVAL_S": "0.2",
    }  # fmt: skip


def run(name: str, nodes: list[ValkeyServer], *arguments: str) -> str:
    done = subprocess.run(
        ["sh", str(BASE / "valkey" / name), *arguments],
        env=variables(nodes), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(node: ValkeyServer, *words: str) -> str:
    return subprocess.run(
        ["valkey-cli", "-p", str(node.port), *words], env=variables([]), capture_output=True, text=True, check=True
    ).stdout


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def is_ready(node: ValkeyServer) -> bool:
    script = str(BASE / "valkey/ready.sh")
    command = ["sh", script, str(node.port)]
    return subprocess.run(command, env=variables([]), capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ValkeyServer]]:
    require_valkey()
    settings = [
        line.split(maxsplit=1)
        for line in (BASE / "valkey/valkey.conf").read_text().splitlines()
        if line and not line.startswith(("#", "dir ", "save ", "cluster-node-timeout "))
    ]
    options = [word for name, value in settings for word in (f"--{name}", value)]
    secret = ("--requirepass", PASSWORD, "--primaryauth", PASSWORD)
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                ValkeyServer(
                    tmp_path_factory.mktemp(f"node-{port}"), *options, *secret, "--cluster-node-timeout", "1000",
                    "--logfile", "/dev/null", port=port,
                )
            )
            for port in free_ports(NODES)
        ]  # fmt: skip


def test_the_job_makes_a_cluster_once_and_a_node_hands_over_before_it_ends(nodes: list[ValkeyServer]) -> None:
    assert all(is_ready(node) for node in nodes)
    assert "All 16384 slots covered" in run("create.sh", nodes)
    until(lambda: all("cluster_state:ok" in ask(node, "cluster", "info") for node in nodes))
    until(lambda: all(is_ready(node) for node in nodes))
    assert "nothing is changed" in run("create.sh", nodes)
    primaries = [node for node in nodes if ask(node, "role").startswith("master")]
    assert len(primaries) == NODES / 2
    run("hand-over.sh", nodes, str(primaries[0].port))
    assert not ask(primaries[0], "role").startswith("master")
    until(lambda: is_ready(primaries[0]))
    run("hand-over.sh", nodes, str(primaries[0].port))  # a replica has nothing to hand over
    # a replica that has lost its primary is not ready
    (backup,) = [one for one in nodes if f"\n{primaries[1].port}\n" in ask(one, "role") and one is not primaries[1]]
    primaries[1].pause()
    try:
        until(lambda: not is_ready(backup) or ask(backup, "role").startswith("master"))
    finally:
        primaries[1].resume()


def test_a_node_that_was_forgotten_is_told_the_addresses_again(nodes: list[ValkeyServer]) -> None:
    if "cluster_known_nodes:1" in ask(nodes[0], "cluster", "info"):
        run("create.sh", nodes)
    until(lambda: all("cluster_state:ok" in ask(node, "cluster", "info") for node in nodes))
    lost, known = nodes[-1], ask(nodes[-1], "cluster", "myid").strip()
    assert ask(lost, "cluster", "nodes").count("\n") == NODES
    for node in nodes[:-1]:
        ask(node, "cluster", "forget", known)
    joining = subprocess.Popen(
        ["sh", str(BASE / "valkey/join.sh"), str(nodes[0].port)], env=variables(nodes), stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: known in ask(nodes[0], "cluster", "nodes"))
    finally:
        joining.terminate()
        assert joining.wait(WITHIN_S) == 0


def test_a_node_starts_with_the_password_of_its_secret_and_tells_the_pod_s_address(tmp_path: Path) -> None:
    require_valkey()
    (port,) = free_ports(1)
    for name in ("valkey.conf", "start.sh"):
        text = (BASE / "valkey" / name).read_text()
        for folder in ("/etc/valkey", "/run/valkey", "/data"):
            text = text.replace(folder, str(tmp_path))
        (tmp_path / name).write_text(text)
    with (tmp_path / "valkey.conf").open("a") as settings:
        settings.write(f"port {port}\nlogfile {tmp_path}/log\n")
    node = subprocess.Popen(["sh", str(tmp_path / "start.sh")], env=variables([]) | {"POD_IP": "127.0.0.1"})
    try:
        command = ["valkey-cli", "-p", str(port), "cluster", "myid"]
        until(lambda: len(subprocess.run(command, env=variables([]), capture_output=True, check=False).stdout) > 40)
        without = subprocess.run(["valkey-cli", "-p", str(port), "ping"], capture_output=True, text=True, check=False)
        assert "NOAUTH" in without.stdout
        assert (tmp_path / "auth.conf").stat().st_mode & 0o077 == 0
        assert subprocess.run(
            ["valkey-cli", "-p", str(port), "config", "get", "primaryauth"],
            env=variables([]), capture_output=True, text=True, check=True,
        ).stdout.split() == ["primaryauth", PASSWORD]  # fmt: skip
    finally:
        node.terminate()
        node.wait(WITHIN_S)
