"""A run in parts, as the jobs of an array do it, and the stitching of what they leave."""

from dataclasses import replace

import pytest

from pipeline import RunConfig
from pipeline.config import parse_shard
from pipeline.errors import ChangedError, OutputError, RetryLater, UsageError
from pipeline.run import segment_raster, status, stitch_raster
from pipeline.steps.journal import Journal


def test_parts_and_a_stitching_give_the_bytes_of_one_run(fresh, original, digests):
    """Each part does its tile blocks and no more, in any order; six blocks are one, two, one and two."""
    reports = [fresh.again(shard=f"{index}/4") for index in (2, 0, 3, 1)]
    assert [report.inferred for report in reports] == [1, 1, 2, 2]
    assert not fresh.output.exists()
    stitch_raster(fresh.output)
    assert status(fresh.output).complete
    assert digests(fresh.output) == digests(original.output)


def test_more_parts_than_blocks_leave_some_with_nothing_to_do(fresh):
    """Which is no error."""
    reports = [fresh.again(shard=f"{index}/8") for index in range(8)]
    assert sorted(report.inferred for report in reports) == [0, 0, 1, 1, 1, 1, 1, 1]


def test_a_missing_part_is_told_and_its_blocks_named(fresh):
    """The stitching may be started again when they are there."""
    fresh.again(shard="0/2")
    with pytest.raises(RetryLater, match=r"3 tile blocks are missing \(1-0, 1-1, 1-2\)"):
        stitch_raster(fresh.output)
    assert not fresh.output.exists()


def test_a_part_that_had_nothing_to_do_leaves_all_blocks_missing(fresh):
    """It has begun the run, and no more."""
    fresh.again(shard="0/8")
    with pytest.raises(RetryLater, match="6 tile blocks are missing"):
        stitch_raster(fresh.output)


def test_parts_begin_at_the_same_time(fresh, original, digests, forks):
    """One of them founds the run; all wait for nobody."""
    configs = [replace(fresh.config, shard=f"{index}/3") for index in range(3)]
    jobs = [forks.Process(target=segment_raster, args=(fresh.raster, fresh.output, config)) for config in configs]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert [path for path in fresh.folder.iterdir() if ".partial" in path.name] == []
    stitch_raster(fresh.output)
    assert digests(fresh.output) == digests(original.output)


def test_a_part_that_was_stopped_goes_on(fresh, records):
    """What is done is not done again."""
    fresh.again(shard="1/2")
    before = records(fresh.folder)
    first = sorted(before)[0]
    (fresh.folder / "records" / "infer" / f"{first}.json").unlink()
    report = fresh.again(shard="1/2")
    assert (report.inferred, report.reused) == (1, 2)
    after = records(fresh.folder)
    assert {name for name in after if after[name] != before[name]} == {first}


def test_a_run_without_parts_does_what_is_left(fresh, original, digests):
    """And the mosaic."""
    fresh.again(shard="0/2")
    assert fresh.again().inferred == 3
    assert digests(fresh.output) == digests(original.output)


def test_a_part_with_other_options_is_refused(fresh):
    """All jobs of an array have the same."""
    fresh.again(shard="0/2")
    with pytest.raises(ChangedError, match="tile-size"):
        fresh.again(shard="1/2", tile_size=(96, 96))


@pytest.mark.parametrize(("held", "wanted"), [("0/2", "0/2"), ("0/2", None), (None, "0/2")])
def test_nobody_works_on_what_another_holds(fresh, held, wanted):
    """A part by its own job alone, the whole by none but one."""
    journal = Journal(fresh.folder)
    with journal.lock(held), pytest.raises(OutputError, match="in use by another run"):
        journal.lock(wanted).__enter__()


def test_two_parts_are_held_at_once(fresh):
    """By two jobs."""
    journal = Journal(fresh.folder)
    with journal.lock("0/2"), journal.lock("1/2"):
        assert journal.is_ours


@pytest.mark.parametrize("text", ["2/2", "1", "0/0", "a/b", "-1/2", "1/2/3"])
def test_parts_that_are_none_are_refused(text):
    """They count from 0."""
    with pytest.raises(UsageError, match=r"give the part, from 0"):
        parse_shard(text)


@pytest.mark.parametrize("other", [{"overwrite": True}, {"keep_store": False}])
def test_a_part_drops_nothing(other):
    """It would be the other parts' work."""
    with pytest.raises(UsageError, match="--shard"):
        RunConfig(shard="0/2", **other)


def test_a_part_needs_the_disk_of_a_part(fresh, monkeypatch):
    """A half of the store, and no mosaic."""
    seen = []
    monkeypatch.setattr("pipeline.budget.check", lambda bill, output, limit, left: seen.append(left))
    segment_raster(fresh.raster, fresh.output, replace(fresh.config, shard="0/2"))
    assert seen == [(0.5, 0.0)]
