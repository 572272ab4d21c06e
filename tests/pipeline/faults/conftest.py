"""A run of 64 tile blocks, and workers that can be harmed: in this process, of this machine, of a scheduler."""

import json
import logging
from contextlib import contextmanager

import dask
import pytest
import rasterio
from faults_fleet import PRELOAD, Fleet, end, start_scheduler, start_worker

from pipeline import RunConfig

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
