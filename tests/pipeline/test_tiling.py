"""Tiles cover the raster, tile blocks and output blocks divide it, all in whole numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.tiling import Axis, TilePlan, Window, output_blocks

settings.register_profile("geometry", deadline=None, max_examples=60)
settings.load_profile("geometry")


@st.composite
def plans(draw):
    """Plans of small rasters: any size, tile, overlap and lattice."""
    lattice = draw(st.sampled_from([4, 7, 16]))
    tile = tuple(lattice * draw(st.integers(1, 6)) for _ in range(2))
    overlap = tuple(draw(st.integers(0, size - lattice)) for size in tile)
    shape = (draw(st.integers(1, 300)), draw(st.integers(1, 300)))
    return TilePlan(shape, tile, overlap, lattice, block_size=draw(st.integers(1, 4)))


@given(plans())
def test_tiles_cover_every_pixel(plan):
    """No pixel is without a tile."""
    seen = np.zeros(plan.shape, bool)
    for block in plan.blocks():
        for tile in block.tiles:
            seen[tile.window.slices] = True
    assert seen.all()


@given(plans())
def test_tile_origins_lie_on_the_lattice(plan):
    """All cells of all tiles coincide."""
    for axis in (plan.rows, plan.cols):
        assert all(origin % plan.lattice == 0 for origin in axis.origins)


@given(plans())
def test_the_last_tile_ends_at_the_lattice_edge(plan):
    """A tile overhangs by less than one lattice step, unless it is the only one."""
    for axis in (plan.rows, plan.cols):
        end = axis.origins[-1] + axis.tile
        assert end >= axis.size
        assert end == axis.edge or len(axis.origins) == 1


@given(plans())
def test_neighbours_share_at_least_the_overlap(plan):
    """Sliding the last tile back can only add to what two tiles share."""
    for axis in (plan.rows, plan.cols):
        steps = np.diff(axis.origins)
        assert (steps > 0).all()
        assert (steps <= axis.stride).all()


@given(plans())
def test_every_tile_is_in_one_block(plan):
    """Each tile is inferred exactly once in a run."""
    ranks = sorted(tile.rank for block in plan.blocks() for tile in block.tiles)
    assert ranks == list(range(len(plan)))


@given(plans())
def test_every_pixel_is_owned_by_one_block(plan):
    """The validity of a pixel has one writer, who has read it."""
    owners = np.zeros(plan.shape, int)
    for block in plan.blocks():
        owners[block.owned.slices] += 1
        read = np.zeros(plan.shape, bool)
        for part in block.reads:
            read[part.window.slices] = True
        assert read[block.owned.slices].all()
    assert (owners == 1).all()


@given(plans(), st.data())
def test_covering_gives_just_the_tiles_that_touch(plan, data):
    """Looking tiles up equals testing each of them."""
    row, col = (data.draw(st.integers(0, size - 1)) for size in plan.shape)
    window = Window(row, col, data.draw(st.integers(1, 80)), data.draw(st.integers(1, 80)))
    touching = [
        tile for r in range(plan.grid[0]) for c in range(plan.grid[1])
        if min((tile := plan.tile(r, c)).window.intersect(window)[2:]) > 0
    ]  # fmt: skip
    assert plan.covering(window) == touching


@given(st.integers(1, 500), st.integers(1, 500), st.sampled_from([16, 64, 100]))
def test_output_blocks_divide_the_raster(rows, cols, side):
    """Each pixel of the mosaic has exactly one writer."""
    writers = np.zeros((rows, cols), int)
    for block in output_blocks((rows, cols), side):
        writers[block.window.slices] += 1
        assert block.window.row % side == block.window.col % side == 0
    assert (writers == 1).all()


def test_super_windows_are_at_least_2048_pixels_where_the_block_is():
    """Smaller reads would decode the file's blocks again and again."""
    plan = TilePlan((20000, 20000), (512, 512), (128, 128), 16)
    for read in plan.block(0, 0).reads:
        assert min(read.window.height, read.window.width) >= 2048


def test_a_raster_smaller_than_a_tile_has_one_tile():
    """It overhangs, and what overhangs is for the reader to fill."""
    plan = TilePlan((5, 7), (64, 64), (16, 16), 16)
    assert len(plan) == 1
    assert plan.tile(0, 0).window == Window(0, 0, 64, 64)


def test_overlap_is_rounded_up_to_the_lattice():
    """The user's pixels are a least, not a most."""
    assert TilePlan((900, 900), (512, 512), (100, 1), 16).overlap == (112, 16)


@pytest.mark.parametrize(
    ("tile", "overlap"), [((100, 64), (0, 0)), ((64, 64), (64, 0)), ((64, 64), (-1, 0)), ((0, 64), (0, 0))]
)
def test_a_plan_that_makes_no_sense_is_refused(tile, overlap):
    """A tile off the lattice, an overlap that leaves no stride."""
    with pytest.raises(UsageError):
        TilePlan((500, 500), tile, overlap, 16)


def test_windows_print_as_people_say_them():
    """Messages name rows and columns."""
    assert str(Window(1, 2, 10, 20)) == "rows 1..11, columns 2..22"


def test_a_gigapixel_axis_is_planned_without_listing_pixels():
    """Origins are few numbers, whatever the raster."""
    assert len(Axis(10**6, 512, 128, 16).origins) == 2604
