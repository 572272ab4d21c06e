"""The bill before the order: what it grows with, and what it is compared with."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import budget
from pipeline.budget import DRIVER, REPORT, Bill, check
from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.prepare import prepare
from pipeline.steps.journal import Journal

HUGE = Bill(memory=1, inference=0, rendering=0, store=10**18, mosaic=10**18)


def bill_of(made, **changes):
    """The bill of a run like another, with changes."""
    config = RunConfig(**{**vars(made.config), **changes})
    return budget.of_config(prepare(str(made.raster), Path("out.zarr"), config), config)


def test_memory_grows_with_batches_and_workers(original):
    """Each worker is a process with a model of its own."""
    one, batch, two = (bill_of(original, **more) for more in ({}, {"batch_size": 64}, {"workers": 2}))
    assert batch.memory > one.memory
    assert two.memory > 1.9 * bill_of(original, workers=1).memory - DRIVER - REPORT


def test_the_sieve_is_billed(original):
    """For what it sees around each block, and for the second best of each pixel."""
    wide, narrow, none = (bill_of(original, chunk=16, sieve=sieve).rendering for sieve in (60, 20, 0))
    assert wide > narrow > none


def test_work_elsewhere_takes_no_memory_here(original):
    """Only the driver is on this machine, which draws the report."""
    assert bill_of(original, scheduler="tcp://elsewhere:8786").memory == DRIVER + REPORT


def test_the_store_is_the_tiles_of_the_area_only(original):
    """A corner of a raster is not billed as the raster."""
    assert bill_of(original, bbox="1000,4980,1020,5000").store < bill_of(original).store


def test_a_disk_that_is_too_small_is_refused(tmp_path):
    """Before anything is written."""
    with pytest.raises(UsageError, match="of disk"):
        check(HUGE, tmp_path / "out.zarr", None)


def test_what_is_written_already_needs_no_more_disk(tmp_path):
    """So that a run which filled half of the disk can go on."""
    assert check(HUGE, tmp_path / "out.zarr", None, left=(0, 0)) is None


def test_memory_above_the_limit_is_refused_with_both_figures(tmp_path):
    """And with what to lower."""
    with pytest.raises(UsageError, match=r"needs 2\.00 GB and may take 1\.00 GB; lower"):
        check(replace(HUGE, memory=2 * 10**9), tmp_path / "out.zarr", 10**9)


def test_a_finished_run_has_nothing_left(original):
    """And one that was not begun has everything."""
    from pipeline.steps.tasks import Tasks

    spec = Journal(original.folder).spec()
    assert Tasks(spec, Journal(original.folder)).share_left == (0, 0)
    assert Tasks(spec, Journal(original.folder / "none")).share_left == (1, 1)
