"""What handing out a block costs, and whether the driver's memory grows with their number."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.cluster import connect
from pipeline.config import RunConfig


@dataclass(frozen=True)
class Scheduling:
    """What was measured.

    Attributes:
        blocks: Handed out, one after the other within the window.
        workers: Worker processes; 0: all in this process.
        microseconds: Wall time of a block.
        cpu_microseconds: Processor time of a block in the driver, which is the scheduler too.
        memory: Bytes that the driver held when a tenth of the blocks was done.
        growth: Bytes that it held more at the end.
    """

    blocks: int
    workers: int
    microseconds: float
    cpu_microseconds: float
    memory: int
    growth: int


def nothing(folder: str, row: int, col: int) -> tuple[str, int, int]:
    """A block without work."""
    return folder, row, col


def measure_scheduling(blocks: int, workers: int) -> Scheduling:
    """Hand out blocks without work, as a run hands out tile blocks."""
    with connect(RunConfig(workers=workers)) as cluster:
        results = cluster.run(nothing, _tasks(blocks), alone=True)
        start, cpu, memory = time.perf_counter(), time.process_time(), 0
        for number, _ in enumerate(results, 1):
            if number == max(1, blocks // 10):
                memory = _resident()
        seconds, busy, growth = time.perf_counter() - start, time.process_time() - cpu, _resident() - memory
    return Scheduling(blocks, workers, seconds / blocks * 1e6, busy / blocks * 1e6, memory, growth)


def _tasks(count: int) -> Iterator[tuple[str, int, int]]:
    folder = str(Path.cwd() / "masks.run")
    return ((folder, *divmod(number, 100)) for number in range(count))


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)
