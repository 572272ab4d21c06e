"""Thinned arrays: the pixels in the middle, whatever level they are read from, and no more in memory than a block."""

import tracemalloc

import numpy as np
import pytest
from small_mosaic import SHAPE, make, paint, picture

from pipeline.export.thin import fit, thin
from pipeline.rasters.raster_spec import Grid


@pytest.mark.parametrize(("side", "shape"), [(5000, SHAPE), (1000, (750, 1000)), (333, (250, 333)), (1, (1, 1))])
def test_a_picture_keeps_the_proportions(side, shape):
    """And is never larger than the mosaic."""
    assert fit(SHAPE, side) == shape


@pytest.mark.parametrize("name", ["classes", "confidence", "instances"])
@pytest.mark.parametrize("chunk", [400, 1024])
def test_without_levels_it_is_the_middle_pixels(tmp_path, name, chunk):
    """Against numpy: of each of 300 x 400 equal parts, the pixel in its middle."""
    pixels = picture()
    mosaic = paint(make(tmp_path / "a.zarr", chunk=chunk), pixels)
    rows, cols = ((np.arange(n) + 0.5) * 5 for n in (300, 400))
    expected = pixels[name][np.ix_(rows.astype(int), cols.astype(int))]
    np.testing.assert_array_equal(thin(mosaic, name, (300, 400)), expected)


def test_a_full_picture_is_the_array(tmp_path):
    """Nothing is left out where nothing must be."""
    pixels = picture()
    mosaic = paint(make(tmp_path / "a.zarr", chunk=512), pixels)
    np.testing.assert_array_equal(thin(mosaic, "classes", SHAPE), pixels["classes"])


@pytest.mark.parametrize(("shape", "level"), [((375, 500), 2), ((500, 667), 1), ((376, 501), 1), ((1000, 1333), 0)])
def test_it_is_read_from_the_coarsest_level_that_is_large_enough(tmp_path, shape, level):
    """The other levels are destroyed, and the picture is that of the mosaic without levels, to a pixel of the level."""
    pixels = picture()
    plain = thin(paint(make(tmp_path / "b.zarr"), pixels), "classes", shape)
    mosaic = paint(make(tmp_path / "a.zarr", levels=3), pixels)
    for other in {0, 1, 2} - {level}:
        mosaic.array("classes", other)[:] = 77
    found = thin(mosaic, "classes", shape)
    assert 77 not in found
    assert (found == plain).mean() > 0.9


def test_a_large_mosaic_without_levels_takes_no_more_than_some_blocks(tmp_path):
    """100 million pixels of four bytes, in less than a tenth of their memory."""
    mosaic = make(tmp_path / "a.zarr", Grid((10_000, 10_000)), None)
    tracemalloc.start()
    assert thin(mosaic, "instances", (100, 100)).shape == (100, 100)
    assert tracemalloc.get_traced_memory()[1] < 40e6
    tracemalloc.stop()
