"""Where the seconds of a task go."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds spent per part of a task; parts may run in several threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time of the context to one part."""
        start = time.perf_counter()
        yield
        with self._lock:
            self.seconds[part] += time.perf_counter() - start

    def rounded(self) -> dict[str, float]:
        """By part, for a record."""
        return {part: round(seconds, 4) for part, seconds in self.seconds.items()}
