"""From a file's numbers to what a model sees."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eomt_core.palette import PaletteModel
from eomt_core.predict import Predictor
from pipeline.errors import InputError
from pipeline.preprocess import (
    SAMPLE_PIXELS,
    SAMPLE_WINDOWS,
    Scaling,
    choose_scaling,
    cut_tile,
    prepare,
    sample_windows,
    to_unit,
)
from pipeline.rasters.raster import Grid, RasterSpec, Reader, open_raster
from pipeline.tiling import TilePlan, Window


def spec_of(shape, block=(512, 512), dtype="uint16", bands=(1, 2, 3), bits=16):
    """A raster that exists on paper."""
    grid = Grid(shape)
    return RasterSpec("/a.tif", "GTiff", grid, grid, None, 3, dtype, bits, bands, None, "none", None, block)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,3000", Scaling((0, 0, 0), (3000, 3000, 3000))),
        ("-1,1;0,2.5; 1e3 , 2e3", Scaling((-1, 0, 1000), (1, 2.5, 2000))),
    ],
)
def test_a_range_is_for_all_bands_or_one_for_each(text, expected):
    """Pairs of numbers, joined by semicolons."""
    assert choose_scaling(text, spec_of((9, 9))) == expected


@pytest.mark.parametrize("text", ["5", "1,2,3", "a,b", "0,1;0,1", "3,3", "4,3", "nan,1", "0,inf", "", "auto,1"])
def test_a_range_that_is_none_is_refused(text):
    """The message has the option and its value."""
    with pytest.raises(InputError, match=re.escape(f"--scale {text}")):
        choose_scaling(text, spec_of((9, 9)))


@pytest.mark.parametrize(
    ("dtype", "bits", "card", "hi"),
    [("uint8", 8, None, 255), ("uint8", 1, (), 1), ("uint8", 8, [(0, 100)], 100), ("uint16", 16, [(0, 1e4)], 1e4)],
)
def test_auto_looks_at_the_card_and_then_at_the_type(dtype, bits, card, hi):
    """No pixel is read for either: this raster does not exist."""
    spec = spec_of((9, 9), dtype=dtype, bits=bits)
    assert choose_scaling("auto", spec, card) == Scaling((0, 0, 0), (hi, hi, hi))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64", "int8", "uint64"])
def test_auto_is_the_percentiles_of_a_small_raster(make_raster, dtype):
    """A raster of up to 4 million pixels is taken whole, so numpy gives the same numbers."""
    path = make_raster("a.tif", (3, 200, 300), dtype=dtype)
    scaling = choose_scaling("auto", open_raster(path))
    with Reader(open_raster(path)) as reader:
        pixels = reader.read(Window(0, 0, 200, 300)).pixels.reshape(3, -1)
    np.testing.assert_allclose([scaling.lo, scaling.hi], np.percentile(pixels, (2, 98), axis=1))


def test_auto_sees_valid_pixels_only(make_raster):
    """A collar of nodata does not darken the image."""
    pixels = np.full((1, 50, 50), -9999, np.float32)
    pixels[:, 10:20] = np.linspace(0, 1, 500).reshape(1, 10, 50)
    scaling = choose_scaling("auto", open_raster(make_raster("a.tif", pixels, nodata=-9999), needed=1))
    assert (scaling.lo[0], scaling.hi[0]) == pytest.approx((0.02, 0.98))


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 256, "blockysize": 256}, {"blockysize": 16}])
def test_auto_of_a_large_raster_is_close_to_its_percentiles(make_raster, layout):
    """What differs from place to place is seen, whatever the layout: a slope of 2500 x 2400 pixels."""
    rows, cols = np.ogrid[:2500, :2400]
    pixels = (rows * 10 + cols).astype(np.uint16)[None]
    scaling = choose_scaling("auto", open_raster(make_raster("a.tif", pixels, **layout), needed=1))
    low, high = np.percentile(pixels, (2, 98))
    assert scaling.lo[0] == pytest.approx(low, abs=0.03 * np.ptp(pixels))
    assert scaling.hi[0] == pytest.approx(high, abs=0.03 * np.ptp(pixels))


@given(
    shape=st.tuples(st.integers(1, 200_000), st.integers(1, 200_000)),
    block=st.sampled_from([(512, 512), (256, 1024), (1, None), (16, None)]),
)
def test_the_sample_is_bounded_and_inside(shape, block):
    """However large the raster: 64 windows at most, of bounded size, none outside."""
    spec = spec_of(shape, (block[0], block[1] or shape[1]))
    windows = sample_windows(spec)
    assert 1 <= len(windows) <= SAMPLE_WINDOWS
    assert all(window.intersect(spec.grid.window) == window for window in windows)
    assert all(window.height > 0 and window.width > 0 for window in windows)
    limit = max(SAMPLE_PIXELS, shape[1]) if len(windows) > 1 else SAMPLE_WINDOWS * SAMPLE_PIXELS
    assert all(window.height * window.width <= limit for window in windows)


def test_a_raster_of_nothing_but_nodata_still_has_a_range(make_raster):
    """There is nothing to scale, and no reason to stop."""
    path = make_raster("a.tif", np.zeros((1, 9, 9), np.uint16), nodata=0)
    assert choose_scaling("auto", open_raster(path, needed=1)) == Scaling((0,), (65535,))


@pytest.mark.parametrize("value", [0.0, 5.0, -1e-3, 1e20])
def test_a_band_that_is_the_same_everywhere_becomes_zero(value):
    """A range without width divides by nothing."""
    scaling = Scaling.of([(value, value)])
    assert to_unit(np.full((1, 2, 2), value, np.float32), scaling).tolist() == [[[0, 0], [0, 0]]]


def test_a_scaling_survives_json():
    """It is part of the run spec."""
    scaling = Scaling((0.0, -1.5), (1.0, 2.0))
    assert Scaling.from_json(scaling.to_json()) == scaling


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint64", "float32", "float64"])
def test_the_ends_of_the_range_become_0_and_1(dtype):
    """Linear between them, clipped beyond, float32 throughout."""
    pixels = np.array([0, 10, 60, 110, 120], dtype).reshape(1, 1, 5)
    unit = to_unit(pixels, Scaling((10.0,), (110.0,)))
    assert unit.dtype == np.float32
    assert unit.ravel().tolist() == [0, 0, 0.5, 1, 1]


def test_the_device_scales_bytes_as_floats_are_scaled_here():
    """Two places of one arithmetic: what crosses the bus as bytes is scaled behind it."""
    pixels = np.random.default_rng(0).integers(0, 255, (2, 3, 8, 8), dtype=np.uint8)
    scaling = Scaling((0.0, 10.0, 50.5), (255.0, 200.0, 51.0))
    shown = []
    model = PaletteModel(torch.eye(3))
    model.register_forward_pre_hook(lambda module, given: shown.append(given[0].numpy()))
    Predictor(model, torch.device("cpu"), "fp32", (scaling.lo, scaling.hi), 2).scores(pixels)
    np.testing.assert_allclose(shown[0], to_unit(pixels, scaling), atol=1e-6)


def test_bytes_stay_bytes_until_the_model(make_raster):
    """A quarter crosses the bus, and what the model gets is the same."""
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    valid, scaling = np.ones((2, 2), bool), Scaling((0.0,) * 3, (255.0,) * 3)
    ready = prepare(pixels, valid, scaling)
    assert ready.dtype == np.uint8
    np.testing.assert_array_equal(ready, pixels)


@given(
    pixels=hnp.arrays(np.float32, (2, 3, 4), elements=st.floats(width=32)),
    valid=hnp.arrays(bool, (3, 4)),
    bounds=st.tuples(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30)),
)
def test_no_number_reaches_the_model_that_is_none(pixels, valid, bounds):
    """Whatever floats a file holds: finite, in 0..1, and 0 where nothing is."""
    valid &= np.isfinite(pixels).all(axis=0)
    scaling = Scaling.of([tuple(sorted(bounds))] * 2)
    unit = prepare(pixels, valid, scaling)
    assert unit.dtype == np.float32
    assert ((unit >= 0) & (unit <= 1)).all()
    assert (unit[:, ~valid] == 0).all()


def test_invalid_bytes_become_the_lower_end():
    """Black of the range, not of the file."""
    valid = np.array([[True, False]])
    ready = prepare(np.full((1, 1, 2), 99, np.uint8), valid, Scaling((20.4,), (300.0,)))
    assert ready.tolist() == [[[99, 20]]]


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 9), st.integers(0, 9))
def test_a_tile_is_the_raster_with_its_edge_repeated(rows, cols, top, left):
    """Cut from any super-window that covers it within the raster, a tile is the padded raster at its place."""
    raster = np.random.default_rng(rows * 71 + cols).integers(0, 255, (2, rows, cols), dtype=np.uint8)
    padded = np.pad(raster, [(0, 0), (0, 64), (0, 64)], mode="edge")
    for tile in TilePlan((rows, cols), (32, 32), (16, 16), lattice=16).covering(Window(0, 0, rows, cols)):
        inner = tile.window.intersect(Window(0, 0, rows, cols))
        row, col = max(0, inner.row - top), max(0, inner.col - left)
        within = Window(row, col, inner.bottom - row, inner.right - col)
        part = raster[:, *within.slices]
        np.testing.assert_array_equal(cut_tile(part, within, tile.window), padded[:, *tile.window.slices])
