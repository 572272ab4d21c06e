"""The blocks leave no mark: what is traced by blocks is what GDAL traces of the whole raster at once."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import shapes
from scipy.ndimage import label
from shapely.geometry import shape as shape_of

from pipeline.export.regions import Block, regions
from pipeline.export.trace import without_straights

BLANK = 3
"""The value that is in no region."""

rasters = arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, BLANK))


def reader(values, strengths=None):
    """Gives windows of an array."""
    weights = np.ones_like(values) if strengths is None else strengths
    return lambda window: Block(values[window.slices], values[window.slices] != BLANK, weights[window.slices])


def by_blocks(values, side, strengths=None):
    """All regions of an array."""
    return list(regions(reader(values, strengths), values.shape, side))


def outlines(pairs):
    """Values and outlines in a form in which equal ones are equal, whatever their order and first points."""
    return sorted((int(value), shapely.to_wkt(shapely.normalize(outline))) for value, outline in pairs)


def whole(values):
    """Regions as GDAL finds them when it sees the whole raster."""
    found = shapes(values, mask=values != BLANK, connectivity=4)
    return outlines((value, shape_of(geometry)) for geometry, value in found)


def spiral(side):
    """A line of one pixel's width that winds to the middle, with a gap of one pixel between its turns."""
    values = np.full((side, side), BLANK, np.uint8)
    row, col, step = 0, -1, (0, 1)
    for turn in range(side):
        for _ in range(side - turn // 2 * 2 - (turn > 0) * (turn % 2)):
            row, col = row + step[0], col + step[1]
            if 0 <= row < side and 0 <= col < side:
                values[row, col] = 0
        step = (step[1], -step[0])
    return values


@settings(max_examples=100, deadline=None)
@given(values=rasters, side=st.integers(1, 6))
def test_blocks_leave_no_mark(values, side):
    """Every polygon has the points of the whole raster's, and no other: none on a border, none where it goes on."""
    assert outlines((one.value, one.outline) for one in by_blocks(values, side)) == whole(values)


@settings(max_examples=50, deadline=None)
@given(values=rasters)
def test_another_grid_of_blocks_changes_nothing(values):
    """Blocks of 2 and of 5 pixels have no border in common but the raster's own."""
    two, five = ([(one.value, one.outline) for one in by_blocks(values, side)] for side in (2, 5))
    assert outlines(two) == outlines(five)


@settings(max_examples=50, deadline=None)
@given(values=rasters, side=st.integers(1, 6))
def test_a_region_has_the_area_of_its_pixels_and_is_valid(values, side):
    """One by one; and together they have all pixels that are in any."""
    found = by_blocks(values, side)
    assert [one.outline.area for one in found] == [one.pixels for one in found]
    assert sum(one.pixels for one in found) == (values != BLANK).sum()
    assert all(one.outline.is_valid for one in found)


@settings(max_examples=50, deadline=None)
@given(values=rasters, side=st.integers(1, 6))
def test_regions_are_those_that_scipy_labels(values, side):
    """As many, and strengths are summed over each."""
    strengths = np.arange(values.size, dtype=np.int64).reshape(values.shape)
    found = [(one.value, one.strength) for one in by_blocks(values, side, strengths)]
    want = []
    for value in range(BLANK):
        labelled, count = label(values == value)
        sums = np.bincount(labelled.ravel(), strengths.ravel(), minlength=count + 1)[1:]
        want += [(value, total) for total in sums.tolist()]
    assert sorted(found) == sorted(want)


@pytest.mark.parametrize("side", [4, 7, 64])
def test_what_winds_through_many_blocks_is_one(side):
    """A spiral crosses each border many times."""
    (line,) = by_blocks(spiral(40), side)
    assert outlines([(0, line.outline)]) == whole(spiral(40))


def test_a_region_is_given_as_soon_as_it_is_whole():
    """Of a column of ten rows of blocks, the first is given when the second has been read at the latest."""
    values, seen = np.repeat(np.arange(10, dtype=np.uint32), 8)[:, None].repeat(8, axis=1), []

    def read(window):
        seen.append(window)
        return Block(values[window.slices], values[window.slices] >= 0, values[window.slices])

    assert next(regions(read, values.shape, 8)).value == 0
    assert len(seen) <= 2


def test_large_ids_come_back():
    """GDAL traces signed numbers of 32 bits; ids have no sign."""
    values = np.array([[2**31 - 1, 2**31, 2**32 - 2]], np.uint32)
    assert sorted(one.value for one in by_blocks(values, 2)) == values[0].tolist()


def test_a_raster_without_regions_gives_none():
    """All nodata."""
    assert by_blocks(np.full((9, 9), BLANK, np.uint8), 4) == []


def test_points_at_which_a_ring_does_not_turn_go():
    """Also the first one, which is the last."""
    ring = np.array([[1, 0], [2, 0], [2, 2], [0, 2], [0, 1], [0, 0], [1, 0]], np.int32)
    assert without_straights(ring).tolist() == [[2, 0], [2, 2], [0, 2], [0, 0], [2, 0]]
