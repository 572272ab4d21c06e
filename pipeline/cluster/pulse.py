"""What a task and its driver hear of each other while it is at work: that it goes on, and that it is to stop."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from distributed import get_worker

from pipeline.errors import RunError

TOPIC = "eomt-batch"
"""Under which tasks tell Dask's scheduler, and through it the driver, that they go on."""

EVERY = 5.0
"""Seconds between two such words of a task."""

_stopped: set[str] = set()
"""Run folders whose tasks in this process are to stop."""


class Pulse:
    """What a task calls between two batches.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._next = 0.0

    def __call__(self) -> None:
        """Tell that the task goes on.

        Raises:
            RunError: The run was stopped, and nobody waits for the task any more.
        """
        if self.folder in _stopped:
            raise RunError(f"{self.folder}: the run was stopped; the same command continues it")
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
            with suppress(ValueError):  # a task that is called, not given to a worker
                worker = get_worker()
                worker.log_event(TOPIC, str(worker.get_current_task()))


@contextmanager
def stopping(folder: str) -> Iterator[None]:
    """Tasks of a run in this process stop at their next batch once the driver leaves with an error or a signal."""
    _stopped.discard(folder)
    try:
        yield
    except BaseException:
        _stopped.add(folder)
        raise
