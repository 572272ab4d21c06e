"""What one tile sees as one thing where another tile sees a border."""

import numpy as np
import pytest

from pipeline.stitch.links import link
from pipeline.stitch.queries import Rules
from pipeline.stitch.views import Views

SIDE, OVERLAP = 64, 32
RIGHT = slice(SIDE - OVERLAP, None)
"""The columns of the second tile, on a raster of two."""


@pytest.fixture
def covers(tell, plan_of):
    """`covers(one, other, overlap=32)`: how many there are of two tiles that say different maps (64, 96) of ids."""

    def count(one, other, overlap=OVERLAP):
        plan = plan_of(one.shape, overlap)
        first, second = tell(one), tell(other)
        views = Views(plan, 1, lambda tile: (first, second)[tile.rank](tile), Rules())
        return link(views, plan.covering(plan.raster)).covers

    return count


def halves(border=30):
    """Two things, one above the other, with a border in some row."""
    truth = np.ones((SIDE, 2 * SIDE - OVERLAP), np.int64)
    truth[border:] = 2
    return truth


def test_a_mask_over_both_sides_is_one(covers):
    """Keys of the sides and of the mask; the first tile does not see all of it."""
    found = covers(halves(), np.ones_like(halves()))
    assert [found.first.tolist(), found.second.tolist(), found.over.tolist()] == [[0], [1], [1 << 16]]
    assert found.whole.tolist() == [False]


def test_a_mask_that_ends_in_what_both_see_is_seen_whole(covers):
    """It goes on no further."""
    mask = np.ones_like(halves())
    mask[:, SIDE:] = 0
    assert covers(halves(), mask).whole.tolist() == [True]


@pytest.mark.parametrize(("rows", "found"), [(26, 1), (24, 0)])
def test_three_quarters_of_each_side_must_be_held(covers, rows, found):
    """Of 34 rows below the border; the rest is another thing."""
    mask = np.ones_like(halves())
    mask[30 + rows :] = 2
    assert len(covers(halves(), mask).over) == found


@pytest.mark.parametrize(("width", "found"), [(8, 1), (3, 0)])
def test_a_sliver_in_the_rim_says_nothing(covers, width, found):
    """Of a thing of which the second tile sees no tenth: it takes it for the other one."""
    truth = np.full((SIDE, 2 * SIDE - OVERLAP), 2)
    truth[:, : SIDE - OVERLAP + width] = 1
    assert len(covers(truth, np.full_like(truth, 2)).over) == found


def test_tiles_that_only_touch_cover_nothing(covers):
    """There is nothing that both see."""
    truth = np.ones((SIDE, 2 * SIDE), np.int64)
    truth[30:] = 2
    assert len(covers(truth, np.ones_like(truth), overlap=0).over) == 0
