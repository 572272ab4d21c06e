"""Shards written tile by tile are shards to zarr too."""

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec

from pipeline.storage.shards import ShardReader, new_shard


@pytest.fixture
def array(tmp_path):
    """An empty sharded array of 4x4 chunks, 2x2 chunks a shard."""
    return zarr.create_array(
        tmp_path / "a", shape=(4, 4, 8, 8), chunks=(1, 1, 8, 8), shards=(2, 2, 8, 8), dtype="u2", zarr_format=3,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
    )  # fmt: skip


def write(path, chunks):
    """A shard of 2x2 chunks with some of them."""
    with new_shard(path, (2, 2, 1, 1)) as shard:
        for position, chunk in chunks.items():
            shard.add(position, chunk)


def test_zarr_reads_what_the_writer_writes(array, tmp_path):
    """The format is Zarr's, not ours."""
    chunk = np.arange(64, dtype="u2").reshape(8, 8)
    write(tmp_path / "a/c/1/0/0/0", {(1, 0, 0, 0): chunk})
    assert (array[3, 0] == chunk).all()
    assert (array[2, 0] == 0).all()


def test_the_reader_reads_what_zarr_writes(array, tmp_path):
    """And the other way round."""
    array[0:2, 2:4] = values = np.random.default_rng(0).integers(0, 999, (2, 2, 8, 8), dtype="u2")
    reader = ShardReader(tmp_path / "a/c/0/1/0/0", (2, 2, 1, 1), (8, 8), "u2")
    assert (reader.read((1, 1, 0, 0)) == values[1, 1]).all()


def test_a_chunk_that_was_not_written_is_none(tmp_path):
    """Which is how a tile without data is told from one whose scores are zero."""
    write(tmp_path / "s", {(0, 0, 0, 0): np.zeros((8, 8), "u2")})
    reader = ShardReader(tmp_path / "s", (2, 2, 1, 1), (8, 8), "u2")
    assert reader.read((0, 1, 0, 0)) is None
    assert (reader.read((0, 0, 0, 0)) == 0).all()


def test_a_shard_that_fails_midway_leaves_nothing(tmp_path):
    """A half-written shard must never look like one."""
    with pytest.raises(AttributeError):
        write(tmp_path / "s", {(0, 0, 0, 0): np.ones(4, "u1"), (0, 1, 0, 0): None})
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_index_is_told(tmp_path):
    """It would send the reader to bytes that are no chunk."""
    write(tmp_path / "s", {(0, 0, 0, 0): np.zeros((8, 8), "u2")})
    data = bytearray((tmp_path / "s").read_bytes())
    data[-10] ^= 1
    (tmp_path / "s").write_bytes(data)
    with pytest.raises(OSError, match="index is damaged"):
        ShardReader(tmp_path / "s", (2, 2, 1, 1), (8, 8), "u2")
