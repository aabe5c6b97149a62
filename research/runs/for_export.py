"""What ``hetsyn export`` needs of a run: names and descriptions in ``best.pt``, and test streams beside it.

    python -m research.runs.for_export FILE FOLDER [--data DIR]

makes both of a checkpoint that came without: the ``network.pt`` of an artifact, or ``best.pt`` of an unfinished run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from hetsyn_client import HetsynError
from hetsyn_model.events import Events
from hetsyn_model.network import Network
from hetsyn_model.run_folder import replace_file
from hetsyn_model.state import state_bytes
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.fitting import VALIDATION, keep_streams
from hetsyn_model.training.loop import BEST
from research.runs.run import RunSpec, open_task
from research.tasks.task import Task, first_streams

VERIFIED_STREAMS = 256  # fewer where the exact form would move too many bytes
VERIFIED_BYTES = 4_000_000_000  # of state, over all steps of all streams; every implementation does it anew


def described(run: RunSpec, task: Task, network: Network, update: int | None) -> Checkpoint:
    """Return a run's network with what an artifact says of it."""
    kind = "recurrent" if run.recurrent else "feedforward"
    return Checkpoint(
        network,
        task.encoder,
        tail_steps=0,
        epoch=update,
        experiment=run.to_dict(),
        labels=task.labels,
        description=f"{task.description} ({run.model}, {kind})",
        input_description=task.input_description,
    )


def keep_test_streams(folder: Path, network: Network, test: Sequence[Batch]) -> None:
    """Leave the first test streams in a folder, for an export to verify the network on."""
    moved = state_bytes(network.compile("exact").layout) * max(int(batch.steps.max()) for batch in test)
    batches = first_streams(test, min(VERIFIED_STREAMS, max(24, VERIFIED_BYTES // moved)))
    streams = [
        stream[:steps]
        for batch in batches
        for stream, steps in zip(batch.events.dense(), batch.steps.tolist(), strict=True)
    ]
    events = Events.of(torch.nn.utils.rnn.pad_sequence(streams, batch_first=True))
    steps = torch.tensor([len(stream) for stream in streams])
    keep_streams(folder, Batch(events, steps, torch.cat([batch.target for batch in batches])))


def main() -> None:
    """Make a folder that ``hetsyn export`` takes from an experiment's checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m research.runs.for_export", description=main.__doc__)
    parser.add_argument("file", type=Path, help="network.pt of an artifact, or best.pt of a run")
    parser.add_argument("folder", type=Path, help=f"gets {BEST} and {VALIDATION}")
    parser.add_argument("--data", type=Path, help="the same --data as in the run")
    arguments = parser.parse_args()
    try:
        saved = Checkpoint.load(arguments.file)
        if saved.experiment is None:
            parser.error(f"{arguments.file}: not of an experiment: `hetsyn export` takes it as it is")
        run = RunSpec.from_dict(saved.experiment)
        task = open_task(run, arguments.data)
        test = task.test()
    except HetsynError as error:
        parser.error(str(error))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    keep_test_streams(arguments.folder, saved.network, test)
    completed = replace(described(run, task, saved.network, saved.epoch), experiment=saved.experiment)
    replace_file(arguments.folder / BEST, completed.to_bytes())


if __name__ == "__main__":
    main()
