"""Runs that are killed at a chosen moment, or starved: for processes of their own, which import this."""

import os
import resource
import signal
import sys

from pipeline import run as runs
from pipeline import segment_raster
from pipeline.errors import EomtBatchError
from pipeline.steps import journal
from pipeline.steps.journal import Journal
from pipeline.storage import shards


def die():
    """What nothing can be done about."""
    os.kill(os.getpid(), signal.SIGKILL)


def half_a_record(path, text):
    """Begin a file as it is always begun, and get no further."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.5f2a.partial").write_text(text[: len(text) // 2])
    if "records" in path.parts:
        die()
    path.write_text(text)


def run_and_die(point, *run):
    """Segment, and be killed at a point."""
    if point == "after a shard, before its record":
        Journal.commit = lambda *args: die()
    elif point == "in the middle of a shard":
        shards.ShardWriter.add = lambda self, *args: (self._file.write(b"half a chunk"), self._file.flush(), die())
    elif point == "in the middle of a record":
        journal.write_atomically = half_a_record
    elif point == "before the finish":
        runs.Mosaic.finish = lambda *args: die()
    elif point == "in the middle of the finish":
        runs.write_companions = lambda *args: die()
    else:
        runs.report_run = lambda *args: die()
    segment_raster(*run)


def run_with_few_files(*run):
    """Segment with at most 64 open files; an error of ours ends with its code and 100."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        segment_raster(*run)
    except EomtBatchError as error:
        sys.exit(100 + error.exit_code)
