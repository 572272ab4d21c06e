"""What inference writes down is what stitching and every other Zarr reader read."""

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.store import Layout, Store, boxes, differences, query_record, undo_differences
from pipeline.tiling import TilePlan

PLAN = TilePlan((150, 210), (64, 64), (16, 16), 16, 2)
KINDS = {"scores": ("u2", (3, 16, 16)), "queries": ("u1", (5, 16, 16)), "exact": ("f2", (5, 16, 16))}
EMPTY = (0, 3)
"""The tile that is nodata all over."""


def layout(kind):
    """Three classes, five queries, 16 x 16 cells."""
    return Layout(kind, 3, 5, (16, 16))


def record(kind, tile):
    """A tile's record of seeded noise: the same tile always gets the same one."""
    rng = np.random.default_rng(tile.rank)
    dtype, shape = KINDS[kind]
    noise = rng.normal(0, 6, shape).astype("f2") if dtype == "f2" else rng.integers(0, 2**8, shape).astype(dtype)
    return {"scores": noise} if kind == "scores" else query_record(noise, rng.random((5, 4)).astype("f4"), 4)


def fill(store, block):
    """Write all tiles of a block but the empty one."""
    with store.writer(block) as write:
        for tile in block.tiles:
            if (tile.row, tile.col) != EMPTY:
                write(tile, record(store.layout.kind, tile))


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    """A store of each kind, filled."""
    store = Store(tmp_path / "store", PLAN, layout(request.param))
    store.create()
    for block in PLAN.blocks():
        fill(store, block)
    return store


def full_tiles():
    """All tiles but the empty one."""
    return [tile for tile in PLAN.covering(PLAN.raster) if (tile.row, tile.col) != EMPTY]


def test_what_is_written_is_read(store):
    """Every array of every tile, bit for bit."""
    for tile in full_tiles():
        for name, expected in record(store.layout.kind, tile).items():
            found = store.read(name, tile)
            assert found.dtype == expected.dtype
            assert (found == expected).all()


def test_zarr_reads_what_is_written(store):
    """The store is plain Zarr: any reader sees the same numbers."""
    group = zarr.open_group(store.folder, mode="r")
    for tile in full_tiles():
        for name, expected in record(store.layout.kind, tile).items():
            assert (group[name][tile.row, tile.col] == expected).all()


def test_a_tile_without_data_has_no_chunk(store):
    """None, where Zarr readers see the fill value."""
    for name in store.layout.arrays:
        assert store.read(name, PLAN.tile(*EMPTY)) is None
        assert not zarr.open_array(store.folder / name, mode="r")[EMPTY].any()


def test_masks_come_back_as_codes_or_logits(tmp_path):
    """Differences along the rows are the store's own business."""
    for kind in ("queries", "exact"):
        store = Store(tmp_path / kind, PLAN, layout(kind))
        store.create()
        codes = np.random.default_rng(1).integers(0, 256, (5, 16, 16)).astype(KINDS[kind][0])
        with store.writer(PLAN.block(0, 0)) as write:
            write(PLAN.tile(0, 0), query_record(codes, np.zeros((5, 4), "f4"), 5))
        assert (store.masks(PLAN.tile(0, 0)) == codes).all()
        assert store.masks(PLAN.tile(1, 1)) is None


def test_the_schema_says_its_version_and_kind(store):
    """A reader of another version can tell."""
    assert dict(zarr.open_group(store.folder, mode="r").attrs) == {"schema": 1, "kind": store.layout.kind}


def test_a_chunk_is_a_tile_and_a_shard_a_block(store):
    """So that a task writes whole objects, and no object has two writers."""
    for name, (shape, dtype) in store.layout.arrays.items():
        array = zarr.open_array(store.folder / name, mode="r")
        assert (array.shape, array.dtype) == ((3, 5, *shape), np.dtype(dtype))
        assert (array.chunks, array.shards) == ((1, 1, *shape), (2, 2, *shape))


def test_a_block_is_one_object_per_array(store):
    """And they are all there once the block is written."""
    for block in PLAN.blocks():
        objects = store.objects(block)
        assert len(objects) == len(store.layout.arrays)
        assert all(path.is_file() for path in objects)


def test_a_block_that_fails_midway_leaves_nothing(tmp_path):
    """No shard of any of its arrays appears."""
    store = Store(tmp_path / "store", PLAN, layout("queries"))
    store.create()
    with pytest.raises(RuntimeError), store.writer(PLAN.block(0, 0)) as write:  # noqa: PT012 it fails in the middle
        write(PLAN.tile(0, 0), record("queries", PLAN.tile(0, 0)))
        raise RuntimeError
    assert not any(path.exists() for path in store.objects(PLAN.block(0, 0)))
    assert not list(store.folder.rglob("*.partial"))


def test_a_block_written_again_is_read_anew(tmp_path):
    """A worker outlives a run, and its next one may overwrite what it has read."""
    store, tile = Store(tmp_path / "store", PLAN, layout("scores")), PLAN.tile(0, 0)
    store.create()
    fill(store, PLAN.block(0, 0))
    before = store.read("scores", tile)
    with store.writer(PLAN.block(0, 0)) as write:
        write(PLAN.tile(1, 1), {"scores": before})
    assert store.read("scores", tile) is None
    assert (store.read("scores", PLAN.tile(1, 1)) == before).all()


@given(arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 3)))
def test_differences_can_be_undone(codes):
    """Modulo 256 nothing is lost."""
    assert (undo_differences(differences(codes)) == codes).all()


@given(arrays(bool, st.tuples(*[st.integers(1, 9)] * 3)))
def test_a_box_holds_all_that_is_set_and_is_tight(above):
    """Checked against the indices themselves."""
    for mask, (top, left, bottom, right) in zip(above, boxes(above).tolist(), strict=True):
        rows, cols = np.nonzero(mask)
        expected = (rows.min(), cols.min(), rows.max() + 1, cols.max() + 1) if rows.size else (0, 0, 0, 0)
        assert (top, left, bottom, right) == expected


@pytest.mark.parametrize(("masks", "dtype"), [([[0, 0, 0], [0, 2, 1]], "u1"), ([[-8, -9, -8], [-8, -7.9, 3]], "f2")])
def test_the_box_is_of_cells_above_minus_eight(masks, dtype):
    """The code 0 is the logit -8 and all below it."""
    found = query_record(np.array([masks], dtype), np.zeros((1, 2), "f4"), 1)
    assert found["boxes"].tolist() == [[1, 1, 2, 3]]
    assert found["counts"].tolist() == [1]


def validity():
    """A raster with a hole over several blocks."""
    valid = np.ones(PLAN.shape, bool)
    valid[40:140, 100:190] = False
    return valid


def test_validity_is_put_together_from_the_blocks(tmp_path):
    """Each writes its own pixels and no others, in any order."""
    store, valid = Store(tmp_path / "store", PLAN, layout("scores")), validity()
    store.create()
    for block in reversed(list(PLAN.blocks())):
        store.write_valid(block, valid[block.owned.slices])
    assert (store.valid(PLAN.raster) == valid).all()
    assert (zarr.open_array(store.folder / "valid", mode="r")[...] == valid).all()


def test_a_chunk_of_validity_has_one_writer(tmp_path):
    """Otherwise two of them would lose each other's pixels."""
    store = Store(tmp_path / "store", PLAN, layout("scores"))
    store.create()
    for block in PLAN.blocks():
        store.write_valid(block, np.zeros((block.owned.height, block.owned.width), bool))
    named = [path for block in PLAN.blocks() for path in store.objects(block) if "valid" in path.parts]
    assert len(named) == len(set(named))
    assert set(named) == {path for path in (store.folder / "valid" / "c").rglob("*") if path.is_file()}


def test_where_all_is_valid_nothing_is_stored(tmp_path):
    """Most rasters are; a block that becomes all valid loses what it had."""
    store, block = Store(tmp_path / "store", PLAN, layout("scores")), PLAN.block(0, 0)
    store.create()
    for valid, stored in ((False, 1), (True, 0)):
        store.write_valid(block, np.full((block.owned.height, block.owned.width), valid))
        assert len([path for path in store.objects(block) if "valid" in path.parts]) == stored


def test_bytes_of_a_tile_are_those_of_its_arrays(store):
    """The bill is made with them."""
    assert store.layout.tile_bytes == sum(part.nbytes for part in record(store.layout.kind, PLAN.tile(0, 0)).values())


def test_a_lost_shard_is_an_error_and_not_nodata(store):
    """Else a damaged store would become an empty mosaic."""
    for path in store.objects(PLAN.block(0, 0)):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        store.read(next(iter(store.layout.arrays)), PLAN.tile(0, 0))
