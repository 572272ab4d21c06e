"""How fast a step went, from the times at which its blocks were done."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.steps.journal import BlockRecord

BINS = 48
"""Spans of time that a course has at most; each holds a few blocks."""

FEW = 2

PAUSE = 60.0
"""Seconds without any block, far longer than usual, that are a stop between two runs rather than work."""

USUAL = 20
"""Times the median wait between two blocks."""


@dataclass(frozen=True)
class Course:
    """The pace of a step over its own time.

    Attributes:
        blocks: How many were done.
        seconds: That it was at work.
        paused: That it was not: stops between runs, left out of the course.
        rates: Pixels per second in equal spans of that time.
    """

    blocks: int
    seconds: float
    paused: float
    rates: tuple[float, ...]


def course(records: Sequence[BlockRecord]) -> Course | None:
    """The course of a step; None where no record says when it was made."""
    timed = sorted((record for record in records if record.ended), key=lambda record: record.ended)
    if not timed:
        return None
    ends = np.array([record.ended for record in timed])
    # When the first block was begun is not written anywhere: it took about as long as its parts together.
    waits = np.diff(ends, prepend=ends[0] - max(sum(timed[0].seconds.values()), 1e-3))
    usual = float(np.median(waits))
    stops = waits > max(PAUSE, USUAL * usual)
    times = np.cumsum(np.where(stops, usual, waits))
    pixels = np.cumsum([record.pixels for record in timed])
    edges = np.linspace(0, times[-1], min(BINS, max(1, len(timed) // FEW)) + 1)
    done = np.interp(edges, np.r_[0, times], np.r_[0, pixels])
    rates = np.diff(done) / np.diff(edges)
    return Course(len(timed), float(times[-1]), float((waits - usual)[stops].sum()), tuple(rates.tolist()))
