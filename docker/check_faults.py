"""Breaks the containers of ``docker compose up`` while clients stream through the proxy; part of docker/check.

    python docker/check_faults.py http://127.0.0.1:8000

Clients stream recordings in numbered chunks. A replica hangs, one is killed, all are replaced one by one, and the store
is paused and killed. No client may see an error, and every reply must equal that of an undisturbed stream, bit for bit.
Each check waits for an event, never for a time. The script calls ``docker`` with the environment's DOCKER_HOST,
COMPOSE_FILE and COMPOSE_PROJECT_NAME.
"""

from __future__ import annotations

import base64
import re
import secrets
import subprocess
import sys
import tempfile
import time
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from streaming_threads import CHUNK_S, CLIENTS, WAIT_S, CheckFailed, StreamingThreads, content

from hetsyn_client.client import StreamingClient
from service.wire.sound import decode_wav

REPOSITORY = Path(__file__).parent.parent
RECORDINGS = REPOSITORY / "docs" / "recordings"
PCM = "audio/pcm;encoding=pcm_s16le;rate=8000"
RECOGNISED = 9  # at least, of ten recordings
STORE_REPEATS = 10  # a store that starts again may take longer than a client waits by default


def run(*command: str) -> str:
    finished = subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True)
    if finished.returncode:
        raise CheckFailed(f"{' '.join(command)}: {finished.stdout}{finished.stderr}")
    return finished.stdout.strip()


def replicas() -> dict[str, str]:
    """Find the replicas' own URLs, by container."""
    urls = {}
    for container in run("docker", "compose", "ps", "--quiet", "api").split():
        networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
        urls[container] = f"http://{run('docker', 'inspect', '--format', networks, container).split()[0]}:8000"
    return urls


def counted(url: str, name: str) -> float:
    """Read a value of the server's metrics."""
    line = re.search(rf"^{re.escape(name)} (\S+)$", httpx.get(url + "/metrics", trust_env=False).text, re.MULTILINE)
    if line is None:
        raise CheckFailed(f"{url}/metrics does not have {name}")
    return float(line[1])


def all_digits(folder: Path) -> Path:
    """Join the recordings of all words."""
    path = folder / "digits.wav"
    pieces = [decode_wav(file.read_bytes()) for file in sorted(RECORDINGS.glob("*.wav"))]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(pieces[0][1])
        for samples, _ in pieces:
            file.writeframes(np.round(samples * 32_768.0).clip(-32_768, 32_767).astype("<i2").tobytes())
    return path


def undisturbed(url: str, recording: Path) -> list[Any]:
    """Return the content of the reply to each chunk while nothing is broken."""
    with StreamingClient(url, repeats=0) as client:
        return [content(reply) for reply in client.stream_file(recording, CHUNK_S)]


def check_words(url: str) -> None:
    """Check that the words are heard. The network was not trained on this voice, so it may miss one."""
    recognised = 0
    recordings = sorted(RECORDINGS.glob("*.wav"))
    with StreamingClient(url, repeats=0) as client:
        for recording in recordings:
            *_, last = client.stream_file(recording, CHUNK_S)
            recognised += last["label"] == recording.stem
    if recognised < RECOGNISED:
        raise CheckFailed(f"{recognised} of {len(recordings)} recordings were recognised, {RECOGNISED} are expected")
    print(f"{recognised} of {len(recordings)} recordings are recognised through the proxy, in chunks")


def send_silence(
    client: httpx.Client, session: str, seq: int | None, *, as_json: bool, begin: bool = False
) -> httpx.Response:
    """Send a chunk of 0.1 s of silence, once; ``begin`` lets one without a number begin its session."""
    silence = bytes(1600)
    named: dict[str, Any] = {"session": session} | ({} if seq is None else {"seq": seq})
    if begin:
        named["begin"] = True
    if not as_json:
        return client.post("/infer", params=named, content=silence, headers={"Content-Type": PCM})
    data = base64.b64encode(silence).decode()
    audio = {"kind": "audio", "encoding": "pcm_s16le", "sample_rate": 8000, "data": data}
    return client.post("/infer", json=named | {"input": audio})


def check_affinity(url: str) -> None:
    """Check that a session's chunks go to one replica, so that no replica loads a session from the store."""
    loaded = 'hetsyn_sessions_total{event="loaded"}'
    applied = 'hetsyn_chunks_total{outcome="applied"}'
    before = {replica: (counted(replica, loaded), counted(replica, applied)) for replica in replicas().values()}
    sessions = [secrets.token_urlsafe(16) for _ in range(12)]
    with httpx.Client(base_url=url, trust_env=False) as client:
        for index, session in enumerate(sessions):
            for seq in range(3):
                send_silence(client, session, seq, as_json=index % 2 == 1).raise_for_status()
        for replica, (loads, chunks) in before.items():
            if counted(replica, loaded) != loads:
                raise CheckFailed(f"{replica} loaded sessions: their chunks went to several replicas")
            if counted(replica, applied) == chunks:
                raise CheckFailed(f"{replica} got none of {len(sessions)} sessions")
        for session in sessions:
            if client.get(f"/sessions/{session}").raise_for_status().json()["expected_seq"] != 3:
                raise CheckFailed(f"the session {session} does not expect chunk 3")
            client.delete(f"/sessions/{session}").raise_for_status()
    print(f"{len(sessions)} sessions, raw and JSON, are spread over the replicas, and each stays on one")


def check_shared_state(recording: Path, expected: list[Any]) -> None:
    """Chunks of one session alternate between the replicas, without the proxy."""
    urls = list(replicas().values())
    samples, rate_hz = decode_wav(recording.read_bytes())
    pcm = np.round(samples * 32_768.0).clip(-32_768, 32_767).astype(np.int16)
    length = round(CHUNK_S * rate_hz)
    clients = [StreamingClient(url, repeats=0) for url in urls]
    session = secrets.token_urlsafe(16)
    for seq, whole in enumerate(expected):
        piece = pcm[seq * length : (seq + 1) * length]
        client = clients[seq % len(clients)]
        reply = client.infer_chunk(piece, rate_hz, session=session, seq=seq, end=seq == len(expected) - 1)
        if content(reply) != whole:
            raise CheckFailed(f"chunk {seq} from {urls[seq % len(urls)]} got another answer: {reply}")
    for client in clients:
        client.close()
    print(f"{len(expected)} chunks of one session, alternating over {len(urls)} replicas: equal answers")


def check_killed_replica(url: str, recording: Path, expected: list[Any]) -> None:
    """Kill the replica with most sessions, and start it again."""
    urls = replicas()

    def sessions_held() -> dict[str, float]:
        return {container: counted(at, "hetsyn_sessions_held") for container, at in urls.items()}

    before = sessions_held()
    with StreamingThreads(url, recording, expected, repeats=3) as streams:
        opened: dict[str, float] = {}

        def all_are_under_way() -> bool:
            opened.update({container: count - before[container] for container, count in sessions_held().items()})
            return sum(opened.values()) == CLIENTS and min(opened.values()) > 0  # each replica takes part

        streams.wait_for("both replicas hold sessions of the clients", all_are_under_way)
        victim = max(opened, key=lambda container: opened[container])
        run("docker", "kill", "--signal", "KILL", victim)
        streams.wait_for_sessions()
        run("docker", "start", victim)

        def is_back() -> bool:
            try:
                return counted(replicas()[victim], 'hetsyn_chunks_total{outcome="applied"}') > 0
            except httpx.TransportError:
                return False  # it is not listening yet

        streams.wait_for("the replica that was killed gets chunks again", is_back)
    streams.check()
    print(f"a replica with {opened[victim]:g} of {CLIENTS} sessions killed and started again: {streams.summary()}")


def check_rolling_restart(url: str, recording: Path, expected: list[Any]) -> None:
    """Replace all replicas by ``docker/roll``."""
    before = set(replicas())
    with StreamingThreads(url, recording, expected, repeats=3) as streams:
        streams.wait_for("every client streams", lambda: all(stream.chunks for stream in streams.all))
        run("docker/roll")
        streams.wait_for_sessions()
    streams.check()
    after = set(replicas())
    if len(after) != len(before) or after & before:
        raise CheckFailed(f"the replicas were {before} and are {after}")
    print(f"{len(after)} replicas replaced one by one: {streams.summary()}")


def check_hung_replica(url: str) -> None:
    """Check that another replica answers a hung one's numbered chunks. Unnumbered chunks count at most once."""
    hung, hung_url = next(iter(replicas().items()))
    opened = 'hetsyn_sessions_total{event="opened"}'
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:

        def sessions_on_it(*, numbered: bool, as_json: bool) -> list[str]:
            sessions: list[str] = []
            for _ in range(100):
                session = secrets.token_urlsafe(16)
                before = counted(hung_url, opened)
                seq = 0 if numbered else None
                send_silence(client, session, seq, as_json=as_json, begin=not numbered).raise_for_status()
                if counted(hung_url, opened) > before:
                    sessions.append(session)
                if len(sessions) == 2:
                    return sessions
            raise CheckFailed(f"{hung_url} gets hardly any sessions")

        as_json = {
            session: is_json for is_json in (False, True) for session in sessions_on_it(numbered=True, as_json=is_json)
        }
        numbered = list(as_json)
        for is_json in (False, True):
            as_json |= dict.fromkeys(sessions_on_it(numbered=False, as_json=is_json), is_json)
        unnumbered = list(as_json)[len(numbered) :]
        run("docker", "pause", hung)
        try:
            with ThreadPoolExecutor(len(as_json)) as threads:
                answers = {
                    session: threads.submit(
                        send_silence, client, session, 1 if session in numbered else None, as_json=is_json
                    )
                    for session, is_json in as_json.items()
                }
        finally:
            run("docker", "unpause", hung)
        for session in numbered:
            answers[session].result().raise_for_status()
        for session in unnumbered:
            response = answers[session].result()
            if response.status_code != 504 or response.json()["type"] != "urn:hetsyn:problem:no-answer":
                raise CheckFailed(f"an unnumbered chunk got {response.status_code} {response.text}")
        deadline_s = time.monotonic() + WAIT_S
        while counted(hung_url, "hetsyn_requests_in_flight") > 0:
            if time.monotonic() > deadline_s:
                raise CheckFailed(f"{hung_url} does not finish its requests")
            time.sleep(0.02)
        for session in numbered + unnumbered:
            count = client.get(f"/sessions/{session}").raise_for_status().json()["expected_seq"]
            if count != 2 and not (count == 1 and session in unnumbered):
                raise CheckFailed(f"{count} chunks of two were counted")
            client.delete(f"/sessions/{session}").raise_for_status()
    print(
        f"a replica hung: {len(numbered)} numbered chunks were answered by another, "
        f"{len(unnumbered)} unnumbered got 504, none counted twice"
    )


def check_paused_store(url: str, recording: Path, expected: list[Any]) -> None:
    """While Valkey is paused, every chunk gets 503 with Retry-After."""
    with StreamingThreads(url, recording, expected, repeats=STORE_REPEATS) as streams:
        streams.wait_for("every client streams", lambda: all(stream.chunks for stream in streams.all))
        repeated = [stream.repeated for stream in streams.all]
        run("docker", "compose", "pause", "valkey")
        try:
            response = httpx.post(
                url + "/infer?session=in-the-pause&seq=0",
                content=bytes(1600),
                headers={"Content-Type": PCM},
                timeout=30,
                trust_env=False,
            )
            streams.wait_for(
                "every client was asked to repeat a chunk",
                lambda: all(stream.repeated > count for stream, count in zip(streams.all, repeated, strict=True)),
            )
        finally:
            run("docker", "compose", "unpause", "valkey")
        if response.status_code != 503 or not response.headers.get("Retry-After", "").isdecimal():
            raise CheckFailed(f"with a paused store a chunk got {response.status_code} {response.text}")
        streams.wait_for_sessions()
    streams.check()
    print(f"Valkey paused: 503 with Retry-After {response.headers['Retry-After']}, then {streams.summary()}")


def check_killed_store(url: str, recording: Path, expected: list[Any]) -> None:
    """Valkey is killed and started again on the same data."""
    (container,) = run("docker", "compose", "ps", "--quiet", "valkey").split()
    with StreamingThreads(url, recording, expected, repeats=STORE_REPEATS) as streams:
        streams.wait_for("every client streams", lambda: all(stream.chunks for stream in streams.all))
        run("docker", "kill", "--signal", "KILL", container)
        run("docker", "start", container)
        streams.wait_for_sessions()
    streams.check()
    print(f"Valkey killed and started again: {streams.summary()}")


def main(url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        recording = all_digits(Path(folder))
        expected = undisturbed(url, recording)
        check_words(url)
        check_affinity(url)
        check_shared_state(recording, expected)
        check_hung_replica(url)
        for check in (check_killed_replica, check_paused_store, check_killed_store, check_rolling_restart):
            check(url, recording, expected)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except CheckFailed as failure:
        sys.exit(f"failed: {failure}")
