"""A run of 64 tile blocks, and workers that can be harmed: in this process, of this machine, of a scheduler."""

import json
import logging
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
import rasterio

from pipeline import RunConfig

PRELOAD = str(Path(__file__).parents[2] / "support" / "faulty_worker.py")

MANY = {"tile_size": (64, 64), "overlap": "16", "tile_block": 1, "chunk": 64, "device": "cpu"}
"""Options that make 8 x 8 tile blocks of 400 x 400 pixels, and 49 output blocks."""


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory, palette, original, painted):
    """An unbroken run of 64 tile blocks."""
    folder = tmp_path_factory.mktemp("unbroken")
    profile = {"driver": "GTiff", "count": 3, "height": 400, "width": 400, "dtype": "uint8", "crs": "EPSG:32633"}
    # In blocks of 16, so that one of them may be damaged and only a few tiles see it.
    profile |= {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    with rasterio.open(folder / "in.tif", "w", transform=rasterio.Affine(1, 0, 5, 0, -1, 5), **profile) as dataset:
        dataset.write(painted((400, 400)))
    made = original._replace(
        raster=folder / "in.tif", output=folder / "out.zarr", config=RunConfig(model=palette, **MANY)
    )
    assert made.again().inferred == 64
    return made


@pytest.fixture
def many(unbroken, tmp_path):
    """The same raster and options, nothing done yet."""
    return unbroken._replace(output=tmp_path / "out.zarr")


class Fleet(NamedTuple):
    """Worker processes, and what leads to them.

    Attributes:
        options: Of a run that uses them.
        processes: The scheduler and its workers; nothing where the run starts its own.
        attempts: A file with a line for every attempt at a tile block.
    """

    options: dict[str, Any]
    processes: list[subprocess.Popen[bytes]]
    attempts: Path

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that do the work, those of the nannies left out."""
        owners = [psutil.Process(process.pid) for process in self.processes[1:]] or [psutil.Process()]
        family = [child for owner in owners for child in alive(owner)]
        return [child for child in family if "--multiprocessing-fork" in command_of(child)]

    def kill_a_worker(self, rng):
        """SIGKILL one of them; there may be none for the moment."""
        workers = sorted(self.workers, key=lambda process: process.pid)
        if workers:
            rng.choice(workers).kill()
        return bool(workers)

    def tried(self):
        """The blocks that were begun, as often as they were."""
        return self.attempts.read_text().split()


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


@pytest.fixture
def said():
    """Warnings of the run; a cluster whose logs are silenced silences pytest's handlers too."""
    heard, logger = [], logging.getLogger("pipeline")
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger.addHandler(handler)
    yield heard
    logger.removeHandler(handler)


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """Two workers with faults, for a `with`: `processes` of the run, or those of a `scheduler` elsewhere."""
    attempts = tmp_path / "attempts"

    @contextmanager
    def start(kind, *options, **faults):
        monkeypatch.setenv("EOMT_FAULTS", json.dumps(faults))
        monkeypatch.setenv("EOMT_ATTEMPTS", str(attempts))
        if kind == "processes":
            with dask.config.set({"distributed.worker.preload": [PRELOAD]}):
                yield Fleet({"workers": 2}, [], attempts)
            return
        file = tmp_path / "scheduler.json"
        started = [start_scheduler(file), *(start_worker(file, *options) for _ in range(2))]
        try:
            yield Fleet({"scheduler_file": str(file)}, started, attempts)
        finally:
            for process in reversed(started):
                end(process)

    return start


LOOPBACK = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--no-dashboard")
FAILURES = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}


def start_scheduler(file, **environment):
    """A scheduler in a process of its own."""
    return dask_process("scheduler", "--port", "0", "--scheduler-file", str(file), **FAILURES, **environment)


def start_worker(file, *options, **environment):
    """A worker with the fault that the environment names, restarted by its nanny when it dies."""
    words = ["--scheduler-file", str(file), "--nthreads", "1", "--resources", "GPU=1", "--death-timeout", "10"]
    return dask_process("worker", *words, "--preload", PRELOAD, *options, **environment)


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
