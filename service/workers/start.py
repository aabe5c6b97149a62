"""Starts the workers of ``hetsyn serve --workers``."""

from __future__ import annotations

import logging
import os
import sys
from logging.config import dictConfig

from service.errors import HetsynError
from service.observe.logs import LogFormat, log_config
from service.settings import Settings
from service.workers.division import check_limits
from service.workers.supervisor import Supervisor

log = logging.getLogger("hetsyn.workers")


def check_workers(settings: Settings, count: int) -> str:
    """What is wrong with a number of workers; empty if nothing is."""
    if count > MOST_WORKERS:
        return f"--workers {count} is above {MOST_WORKERS}: take about as many as the machine has cores"
    if settings.grpc.port is not None or settings.model_control == "explicit":
        return "--grpc-port and --model-control explicit are for one process: leave them out, or leave out --workers"
    return check_limits(settings.limits, count)


MOST_WORKERS = 256


def supervise(
    settings: Settings, count: int, log_level: str, log_format: LogFormat = "text", *, has_terminal: bool
) -> int:
    """Run workers until a signal ends them; the exit status.

    Args:
        settings: of the server.
        count: of workers.
        log_level: of the log.
        log_format: of its lines.
        has_terminal: whether SIGHUP says that the terminal was closed.

    Raises:
        HetsynError: the system has no way to do so, or the address cannot be used.
    """
    if sys.platform == "win32":
        raise HetsynError("this system cannot hand connections to another process: leave out --workers")
    dictConfig(log_config(log_level, log_format))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count > cores:
        log.warning("%d workers share %d CPU cores: more workers than cores serve fewer chunks", count, cores)
    log.info("process %d starts %d workers", os.getpid(), count)
    end_s = settings.drain_s + settings.finish_s
    return Supervisor(count, settings.host, settings.port, end_s, has_terminal).run()
