"""A run of 64 tile blocks, and workers that can be harmed: in this process, of this machine, of a scheduler."""

import json
import logging
from contextlib import contextmanager

import dask
import pytest
from faults_fleet import PRELOAD, Fleet, end, start_scheduler, start_worker

from pipeline.run import status


@pytest.fixture(scope="session")
def unbroken(make_many):
    """An unbroken run of 8 x 8 tile blocks; in blocks of 16 pixels, so that few tiles see one that is damaged."""
    made = make_many((400, 400), tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    assert len(status(made.output).done["infer"]) == 64
    return made


@pytest.fixture
def many(unbroken, tmp_path):
    """The same raster and options, nothing done yet."""
    return unbroken._replace(output=tmp_path / "out.zarr")


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
