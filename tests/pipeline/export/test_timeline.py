"""The course of a step, from the times at which its blocks were done."""

import pytest

from pipeline.export.timeline import course
from pipeline.steps.journal import BlockRecord


def records(*ends, pixels=100, seconds=2.0):
    """Blocks that were done at these times."""
    return [
        BlockRecord(f"{n}", "infer", "x", pixels, seconds={"model": seconds}, ended=end) for n, end in enumerate(ends)
    ]


def test_an_even_course():
    """A block each two seconds, ten of them: 50 pixels per second all along, in whatever order they are told."""
    found = course(records(*range(1020, 1000, -2)))
    assert (found.blocks, found.seconds, found.paused) == (10, 20, 0)
    assert found.rates == pytest.approx((50,) * 5)


def test_a_step_that_slows_down():
    """The second half goes at half the speed."""
    found = course(records(*range(1002, 1022, 2), *range(1024, 1064, 4)))
    assert found.rates[0] == pytest.approx(50)
    assert found.rates[-1] == pytest.approx(25)
    assert sum(found.rates) / len(found.rates) * found.seconds == pytest.approx(2000)


def test_a_night_between_two_runs_is_no_work():
    """It counts as one more block's wait, and is told."""
    found = course(records(*range(1002, 1012, 2), *range(40_000, 40_010, 2)))
    assert found.seconds == 20
    assert found.paused == pytest.approx(40_000 - 1010 - 2)


def test_blocks_that_end_together():
    """Four workers end at the same instant: no division by nothing."""
    assert all(rate > 0 for rate in course(records(1010, 1010, 1010, 1010)).rates)


def test_no_times_no_course():
    """Records of versions that noted none."""
    assert course(records(0, 0)) is None
    assert course([]) is None
