"""Dask's scheduler and workers in processes of their own, on loopback, with faults; ended by id."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import dask
import psutil
import pytest

from pipeline import segment_raster

PRELOAD = str(Path(__file__).with_name("faulty_worker.py"))

LOOPBACK = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--no-dashboard")
FAILURES = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}


class Fleet(NamedTuple):
    """Worker processes, and what leads to them.

    Attributes:
        options: Of a run that uses them.
        processes: The scheduler and its workers; nothing where the run starts its own.
        folder: What they hear and tell, see `faulty_worker`.
    """

    options: dict[str, Any]
    processes: list[subprocess.Popen[bytes]]
    folder: Path

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that do the work, those of the nannies left out."""
        named = {path.name for path in self.folder.glob("workers/*")}
        return [child for child in alive(psutil.Process()) if str(child.pid) in named]

    def begin(self, faults):
        """Let the next attempt be the first, of two workers with these faults."""
        (self.folder / "faults.json").write_text(json.dumps(faults))
        (self.folder / "attempts").write_text("")
        assert not self.processes or until(lambda: len(self.workers) == 2, 60)
        return self

    def kill_a_worker(self, rng):
        """SIGKILL one of them; there may be none for the moment."""
        workers = sorted(self.workers, key=lambda process: process.pid)
        if workers:
            rng.choice(workers).kill()
        return bool(workers)

    def tried(self):
        """The blocks that were begun, as often as they were."""
        return (self.folder / "attempts").read_text().split()


@contextmanager
def processes(folder):
    """Workers that the run starts: forked by the server of `forks`, which has imported what each would import anew."""
    settings = {"worker.preload": [PRELOAD], "worker.multiprocessing-method": "forkserver"}
    settings["nanny.environ.EOMT_FAULTS"] = str(folder)
    with dask.config.set({f"distributed.{name}": value for name, value in settings.items()}):
        yield Fleet({"workers": 2}, [], folder)


@contextmanager
def elsewhere(folder, *options):
    """A scheduler and two workers with these options, in processes of their own."""
    file = folder / "scheduler.json"
    started = [start_scheduler(file), *(start_worker(file, folder, *options) for _ in range(2))]
    try:
        yield Fleet({"scheduler_file": str(file)}, started, folder)
    finally:
        for process in reversed(started):
            end(process)


def alive(owner):
    """Its children and theirs."""
    try:
        return owner.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def command_of(process):
    """Words of a process that may be gone by now."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def seeded(count):
    """Seeds in turn for each kind of workers: one by default, two more in CI, the others are soak."""
    marks = [(), pytest.mark.again, pytest.mark.again, *(pytest.mark.soak for _ in range(3, count))]
    return [pytest.param(("processes", "scheduler")[seed % 2], seed, marks=mark) for seed, mark in enumerate(marks)]


def drive(folder, raster, output, config):
    """Segment, with worker processes that have faults."""
    os.environ["EOMT_FAULTS"] = str(folder)
    with dask.config.set({"distributed.worker.preload": [PRELOAD]}):
        segment_raster(raster, output, config)


def start_scheduler(file, *options, **environment):
    """A scheduler in a process of its own."""
    return dask_process("scheduler", "--port", "0", "--scheduler-file", str(file), *options, **FAILURES, **environment)


def start_worker(file, folder, *options):
    """A worker with the faults that a folder names, restarted by its nanny when it dies."""
    words = ["--scheduler-file", str(file), "--nthreads", "1", "--resources", "GPU=1", "--death-timeout", "60"]
    return dask_process("worker", *words, "--preload", PRELOAD, *options, EOMT_FAULTS=str(folder))


def dask_process(kind, *words, **environment):
    """One of Dask's command lines."""
    return subprocess.Popen(
        [sys.executable, "-m", "dask", kind, *words, *LOOPBACK],
        cwd="/",
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def end(process):
    """End a process and those that it started, by their ids."""
    family = alive(psutil.Process(process.pid)) if process.poll() is None else []
    for one in (process, *family):
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(family, timeout=10)


def until(condition, seconds=30):
    """Wait for something; whether it came."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False
