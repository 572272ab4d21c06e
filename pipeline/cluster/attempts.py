"""How often a task is tried, and in which order: what failed once must not stand in the way of the others."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from distributed.scheduler import KilledWorker

from pipeline.errors import TransientError

MOST = 3
"""Attempts at a task that fails in a way that may pass."""

PAUSE = 1.0
"""Seconds before the second attempt; twice as many before the third."""

HARMLESS = 1
"""Deaths of workers that a task may have been near by chance; after one more it runs alone."""

Task = tuple[Any, ...]


@dataclass(frozen=True)
class Attempt:
    """One attempt at a task.

    Attributes:
        task: The arguments.
        number: Counted from 1.
        deaths: Workers that died while they held the task, or had it next.
        due: When it may begin, on the monotonic clock.
    """

    task: Task
    number: int = 1
    deaths: int = 0
    due: float = 0.0

    @property
    def suspect(self) -> bool:
        """Whether the task itself may be what kills workers, and so has to run alone."""
        return self.deaths > HARMLESS

    def after(self, error: BaseException) -> "Attempt | None":
        """The attempt that follows one which ended in an error; None: the task is given up."""
        if isinstance(error, KilledWorker) and not self.suspect:
            # A scheduler of others' may have tried several times before it told us.
            return replace(self, number=self.number + 1, deaths=self.deaths + error.allowed_failures + 1)
        if isinstance(error, TransientError) and self.number < MOST:
            due = time.monotonic() + PAUSE * 2 ** (self.number - 1)
            return replace(self, number=self.number + 1, due=due)
        return None


class Queue:
    """Attempts that wait: those due again first, then tasks not yet tried, at last the suspects, one at a time.

    Args:
        tasks: Taken only as they are needed.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._fresh: Iterator[Attempt] = map(Attempt, tasks)
        self._again: list[Attempt] = []
        self._suspects: deque[Attempt] = deque()

    def put(self, attempt: Attempt) -> None:
        """Let an attempt wait for its turn."""
        (self._suspects if attempt.suspect else self._again).append(attempt)

    def take(self, flying: int) -> Attempt | None:
        """The next attempt that may begin while so many others are under way; None: none may."""
        self._again.sort(key=lambda attempt: attempt.due)
        if self._again and self._again[0].due <= time.monotonic():
            return self._again.pop(0)
        fresh = next(self._fresh, None)
        if fresh or self._again or flying:
            return fresh
        return self._suspects.popleft() if self._suspects else None

    @property
    def pause(self) -> float | None:
        """Seconds until an attempt is due again; None: none waits for its time."""
        return max(0.05, min(attempt.due for attempt in self._again) - time.monotonic()) if self._again else None
