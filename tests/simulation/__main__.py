"""Run worlds: ``python -m tests.simulation [--seed N] [--worlds N]``.

``--seed`` alone runs one world and prints its trace. A world that fails is made smaller first, and the command that
replays it is printed. With ``--worlds`` the seeds from ``--seed`` on are run; they have the same sign again in every
process, as long as nothing is changed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.simulation.plan import Plan, drawn, shrunk
from tests.simulation.world import Simulation


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first world")
    parser.add_argument("--worlds", type=int, help="how many worlds; by default one, with its trace")
    parser.add_argument("--stop", action="store_true", help="at the first world that fails")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if arguments.worlds is None:
        return _replay(shrunk(drawn(arguments.seed), lambda plan: bool(Simulation(plan).run())))
    begun_s, chunks, failed, sign = time.process_time(), 0, [], 0
    for seed in range(arguments.seed, arguments.seed + arguments.worlds):
        simulation = Simulation(drawn(seed))
        if complaints := simulation.run():
            failed.append(seed)
            print(f"world {seed}: {complaints[0]}\n    python -m tests.simulation --seed {seed}", flush=True)
            if arguments.stop:
                return 1
        chunks += simulation.acknowledged
        sign ^= simulation.world.random.getrandbits(32)
    spent_s = time.process_time() - begun_s
    print(
        f"{arguments.worlds} worlds, {len(failed)} of them failed; {chunks} chunks were acknowledged; "
        f"{1000 * spent_s / arguments.worlds:.0f} ms of CPU a world; sign {sign:08x}"
    )
    return int(bool(failed))


def _replay(plan: Plan) -> int:
    simulation = Simulation(plan, is_traced=True)
    complaints = simulation.run()
    print(*simulation.world.trace, sep="\n")
    print(f"\n{plan}\n")
    print(*complaints or ["nothing went wrong"], sep="\n")
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
