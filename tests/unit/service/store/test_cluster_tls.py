"""A cluster behind TLS and a password, and one that is not made yet."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

import pytest

from benchmarks.server_process import free_port
from benchmarks.valkey import ValkeyServer
from benchmarks.valkey_cluster import ValkeyCluster
from service.errors import StoreUnavailable, StoreUnusable
from service.store.base import NO_REVISION, StateStore
from service.store.url import open_store
from tests.support.change import COMMITTED, put
from tests.support.started_store import StartStore
from tests.support.store_record import records
from tests.support.tools import require_valkey

SECRET = "a1b2c3"


def opened(url: str) -> StateStore:
    store = open_store(url, 5.0)
    assert store is not None
    return store


def write_certificate(folder: Path) -> None:
    """``cert.pem`` and ``key.pem`` for 127.0.0.1, signed by itself."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


async def test_tls_and_passwords_reach_every_node(tmp_path: Path, start_store: StartStore) -> None:
    require_valkey()
    write_certificate(tmp_path)
    port = free_port()
    options = (
        "--tls-port", str(port), "--tls-cert-file", str(tmp_path / "cert.pem"),
        "--tls-key-file", str(tmp_path / "key.pem"), "--tls-ca-cert-file", str(tmp_path / "cert.pem"),
        "--tls-auth-clients", "no", "--user", "hetsyn", "on", f">{SECRET}", "~*", "&*", "+@all",
    )  # fmt: skip
    try:
        cluster = ValkeyCluster(tmp_path, *options, primaries=1, replicas=0).__enter__()
    except RuntimeError:
        pytest.skip("this Valkey has no TLS: apt-get install valkey-server")
    try:
        end = f"@127.0.0.1:{port}/?ssl_ca_certs={tmp_path}/cert.pem"
        store = await start_store(opened(f"valkeys-cluster://hetsyn:{SECRET}{end}"))
        assert await store.commit([put("a", NO_REVISION, 1, b"one")]) == [COMMITTED]
        assert await records(store, "a") == [b"one"]
        wrong = opened(f"valkeys-cluster://hetsyn:not-{SECRET}{end}")
        with pytest.raises((StoreUnavailable, StoreUnusable)) as refused:
            await wrong.start()
        assert SECRET not in str(refused.value)
        await wrong.close()
    finally:
        cluster.__exit__(None, None, None)


async def test_nodes_that_are_no_cluster_yet_are_unavailable_until_they_are(tmp_path: Path) -> None:
    require_valkey()
    with ValkeyServer(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as node:
        store = opened(f"valkey-cluster://127.0.0.1:{node.port}/")
        with pytest.raises(StoreUnavailable, match="no cluster yet"):
            await store.start()
        (refused,) = await store.commit([put("a", NO_REVISION, 1)])
        assert isinstance(refused, StoreUnavailable)
        node.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        while isinstance((await store.commit([put("a", NO_REVISION, 1)]))[0], StoreUnavailable):
            pass  # the node takes a moment to see that its slots are covered
        await store.health()
        assert await records(store, "a") == [b"record"]
        await store.close()
