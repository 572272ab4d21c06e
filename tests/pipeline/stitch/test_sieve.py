"""Which parts of a map are small, and that no window changes it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import geometry_mask, shapes

from pipeline.stitch import sieve
from pipeline.stitch.sieve import small_parts, surroundings
from pipeline.tiling import Window

MAPS = arrays(np.int64, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.integers(-1, 2))


def by_polygons(numbers, least):
    """The same from GDAL's polygons of each part."""
    small = np.zeros(numbers.shape, bool)
    for polygon, number in shapes(numbers.astype(np.int32), connectivity=4):
        part = geometry_mask([polygon], numbers.shape, (1, 0, 0, 0, 1, 0), invert=True)
        small |= part & (number != 0) & (part.sum() < least)
    return small


@given(MAPS, st.integers(1, 30))
@settings(max_examples=200, deadline=None)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_small_parts_are_those_of_small_polygons(numbers, least):
    """Parts hang together by their sides; what is no number is no part."""
    np.testing.assert_array_equal(small_parts(numbers, least), by_polygons(numbers, least))


@given(MAPS, st.integers(1, 30), st.sampled_from([3, 7, 256]), st.data())
@settings(max_examples=300, deadline=None)
def test_a_window_has_the_small_parts_that_the_whole_has(numbers, least, reach, data):
    """Whatever it cuts, with what is around it; also where parts are too long to be told small."""
    row, col = (data.draw(st.integers(0, size - 1)) for size in numbers.shape)
    height, width = (data.draw(st.integers(1, size - at)) for size, at in zip(numbers.shape, (row, col), strict=True))
    window, raster = Window(row, col, height, width), Window(0, 0, *numbers.shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sieve, "REACH", reach)
        around = surroundings(window, least, raster)
        found = small_parts(numbers[around.slices], least)[window.within(around)]
        np.testing.assert_array_equal(found, small_parts(numbers, least)[window.slices])


def test_what_is_longer_than_the_reach_stays():
    """A line of few pixels would be looked at from too far."""
    numbers = np.zeros((3, 300), np.int64)
    numbers[0, :256], numbers[2, :257] = 1, 1
    small = small_parts(numbers, 1000)
    assert small[0, :256].all()
    assert not small[2].any()
