"""The access keys of a world, and what their limit of sessions allows: apart from all product code.

With a store, each server counts the sessions that it has seen since its start. Before it refuses one, it asks the
store, once a second, which of them have ended elsewhere. So a key has at most its limit at each server, and a key with
room is not refused for long.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hetsyn_client.access import access_of
from hetsyn_client.errors import ServiceProblem
from service.simulated import write_keys
from tests.simulation.oracle import LATE_S, SessionOracle

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

PROBE = "probe"  # the key of those who look at a server at the end
RECOUNT_S = 2.0  # a server asks the store once a second what has ended elsewhere; the store takes its time


class Rented:
    """A session of a key.

    Attributes:
        key: its name.
        begun_s: when it was asked for first.
        seen_s: times at which its chunks were acknowledged.
        known_s: when the last chunk was sent that was acknowledged; None: it may not be open.
        over_s: when it was known to have ended.
        busy_until_s: when the last request for it is over, whatever became of it.
    """

    def __init__(self, name: str, key: str, oracle: SessionOracle, begun_s: float) -> None:
        self.name = name
        self.key = key
        self.oracle = oracle
        self.begun_s = begun_s
        self.seen_s: list[float] = []
        self.known_s: float | None = None
        self.over_s: float | None = None
        self.busy_until_s = begun_s + LATE_S


class Keyring:
    """The keys of a world; none if everybody is let in.

    Attributes:
        path: the file of keys; None if there are none.
        rented: sessions whose clients tell all that becomes of them.
    """

    def __init__(self, simulation: Simulation, most: Mapping[str, int]) -> None:
        self._simulation = simulation
        self._most = most
        self._tokens: Mapping[str, str] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.path: Path | None = None
        self.rented: list[Rented] = []
        if most:
            most = {**most, PROBE: 1_000}
            self._folder = tempfile.TemporaryDirectory(prefix="hetsyn-simulated-")
            self.path = Path(self._folder.name) / "keys.json"
            self._tokens = write_keys(self.path, most)

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def headers(self, url: str, key: str) -> Mapping[str, str]:
        """Return the headers of a client with a key, or without one."""
        return access_of(url, {"key": self._tokens[key]} if key else {}).headers

    def acknowledged(self, session: Rented) -> None:
        """Judge how many sessions of a key are open, after a chunk of one was acknowledged."""
        key, simulation = session.key, self._simulation
        session.seen_s.append(simulation.world.now_s)
        if key and not simulation.is_short_of_room:
            # a server that was started again, or whose store has failed, has to see a session before another begins
            calm_s = simulation.disturbed_until_s
            open_ = [one for one in self.rented if one.key == key and one.known_s is not None and one.oracle.is_known]
            newest_s = max((one.begun_s for one in open_), default=0.0)
            count = sum(
                one.begun_s == newest_s or any(calm_s < seen_s < newest_s for seen_s in one.seen_s) for one in open_
            )
            most = self._most[key] * simulation.plan.servers
            if count > most:
                simulation.complain(f"the key {key} has {count} open sessions, and may have {most}")

    def refuses(self, key: str, problem: ServiceProblem, sent_s: float) -> None:
        """Judge a refusal with 429 of a request for one of the key's sessions, or for a new one."""
        simulation = self._simulation
        if problem.problem != "key-limit" or not key:
            simulation.complain(f"the key {key} is refused: {problem}")
        elif not simulation.is_short_of_room:
            asked_s = sent_s - RECOUNT_S - simulation.clocks_apart_s
            count = sum(one.key == key and self._may_be_open(one, asked_s) for one in self.rented)
            names = {one.oracle for one in self.rented}
            count += sum(oracle not in names for one in simulation.clients if one.key == key for oracle in one.oracles)
            if count <= self._most[key]:  # it is itself among them
                simulation.complain(f"the key {key} has at most {count} sessions, with the one that is refused")

    def _may_be_open(self, session: Rented, at_s: float) -> bool:
        is_over = session.over_s is not None and session.over_s < at_s
        return not is_over and at_s < session.busy_until_s + self._simulation.expires_s(False)
