"""Runs whose tasks come in another order, and runs that are killed: for processes of their own, which import this."""

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import RunConfig, segment_raster
from pipeline.cluster import Cluster
from pipeline.report import Progress


@contextmanager
def ordered(order: str) -> Iterator[None]:
    """Within it, the tasks of every step come forward, reversed or shuffled."""
    run = Cluster.run

    def otherwise(self, function, tasks, alone, on_failure=None):
        some = list(tasks)[:: -1 if order == "reversed" else 1]
        if order == "shuffled":
            random.Random(0).shuffle(some)
        return run(self, function, some, alone, on_failure)

    Cluster.run = otherwise
    try:
        yield
    finally:
        Cluster.run = run


def run_until(step: str, seconds: float, order: str, source: Path, output: Path, config: RunConfig) -> None:
    """Segment a raster, and die by SIGKILL so many seconds after a step has begun."""
    death = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    death.daemon = True

    def watch(progress: Progress) -> None:
        if progress.step == step and death.ident is None:
            death.start()

    with ordered(order):
        segment_raster(source, output, config, watch)
