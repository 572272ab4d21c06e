"""A run of 64 tile blocks, and workers that can be harmed: in this process, of this machine, of a scheduler."""

import logging
from contextlib import contextmanager

import pytest
from faults_fleet import elsewhere, processes

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


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """A scheduler and two workers that serve one test of a file after the other; idle ones take time, too."""
    with elsewhere(tmp_path_factory.mktemp("standing")) as fleet:
        yield fleet


@pytest.fixture
def fleet(tmp_path, forks, request):
    """Two workers with faults, for a `with`: of the run (`processes`), of a `scheduler`, or of an `own scheduler`."""

    @contextmanager
    def start(kind, *options, **faults):
        folder = tmp_path / "fleet"
        folder.mkdir()
        if kind == "scheduler":
            yield request.getfixturevalue("standing").begin(faults)
            return
        with processes(folder) if kind == "processes" else elsewhere(folder, *options) as made:
            yield made.begin(faults)

    return start
