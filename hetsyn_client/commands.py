"""``hetsyn stream``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from hetsyn_client.results import Reply
from hetsyn_client.server_url import ServerArgument, ServerOption, server_url

stream = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
BAR_WIDTH = 30


@stream.command()
def stream_file(
    file: Annotated[
        Path,
        typer.Argument(
            help="Recording (WAV, FLAC, Ogg), or spikes or values: .npz, .npy, .csv.", exists=True, dir_okay=False
        ),
    ],
    server: ServerArgument = None,
    url: ServerOption = None,
    model: Annotated[str | None, typer.Option(help="Model; by default the server's default model.")] = None,
    chunk_ms: Annotated[float, typer.Option(min=1, help="Length of a chunk.")] = 100.0,
    realtime: Annotated[bool, typer.Option(help="Send no faster than the input lasts.")] = True,
) -> None:
    """Stream a recording, spikes or values to a server, chunk by chunk, and show the classification so far."""
    from hetsyn_client.client import StreamingClient

    console = Console()
    chunk_s = chunk_ms / 1000
    duration_s = 0.0
    began_s = time.monotonic()

    def keep_pace(until_s: float) -> None:
        nonlocal duration_s
        duration_s = until_s
        if realtime:
            time.sleep(max(0.0, began_s + until_s - time.monotonic()))

    with StreamingClient(server_url(server, url)) as client, _line_printer(console) as show:
        for reply in client.stream_file(file, chunk_s, model=model, before_chunk=keep_pace):
            show(_progress_line(duration_s, reply), reply["end"])
    console.print(_verdict(file, reply))


@contextmanager
def _line_printer(console: Console) -> Iterator[Callable[[Text, bool], None]]:
    """On a terminal one line that is overwritten; elsewhere a line for each reply."""
    if not console.is_terminal:
        yield lambda line, is_last: console.print(line)  # noqa: ARG005
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda line, is_last: live.update(line, refresh=True)  # noqa: ARG005


def _progress_line(time_s: float, reply: Reply) -> Text:
    line = Text(f"{time_s:7.2f} s  ")
    if reply["probabilities"] is None:
        last = reply["readout"][-1] if reply["readout"] else []
        return line.append("  ".join(f"{value:+.3f}" for value in last))
    share = max(reply["probabilities"])
    filled = round(share * BAR_WIDTH) if reply["label"] else 0
    line.append(f"{reply['label'] or '...':<12} ", style="bold")
    line.append("█" * filled, style="green").append("░" * (BAR_WIDTH - filled), style="dim")
    return line.append(f" {share:6.1%}" if reply["label"] else "")


def _verdict(file: Path, reply: Reply) -> Text:
    model = f"{reply['model']} {reply['version']}, {reply['form']}"
    if reply["label"] is None or reply["probabilities"] is None:
        return Text(f"{file.name}: {reply['total_steps']} steps ({model})")
    verdict = Text(f"{file.name}: ").append(reply["label"], style="bold green")
    return verdict.append(f"  {max(reply['probabilities']):.1%} ({model})")
