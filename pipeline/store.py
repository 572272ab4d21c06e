"""What inference leaves behind: one record per tile, in one Zarr v3 group with a versioned schema.

Two kinds of record. `scores`: class scores per cell, uint16 codes, for semantic runs. `queries`: the queries that
matter, mask logits at the model's stride (uint8 codes, or float16 logits of all queries where the reference's order is
wanted) with their class probabilities, boxes and count. Masks of uint8 are stored as differences along each row.

    store/scores         (rows, cols, K, h, w)   u2    score · 1024
    store/masks          (rows, cols, Q, h, w)   u1    logit · 16 + 128, less its left neighbour; or f2 logits
    store/class_probs    (rows, cols, Q, K + 1)  f4    the last class is "no object"
    store/boxes          (rows, cols, Q, 4)      u2    top, left, bottom, right of the cells with a logit above -8
    store/counts         (rows, cols, 1)         u2    how many queries are kept
    store/valid          (H, W)                  u1    1 where the raster has data

`rows` and `cols` count tiles; a chunk is a tile, a shard a tile block. A tile that is nodata all over has no chunk.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from pipeline.stitch.queries import TileQueries
from pipeline.storage.paths import AnyPath, stamp, zarr_store
from pipeline.storage.shards import ShardReader, new_shard
from pipeline.tiling import Tile, TileBlock, TilePlan, Window

SCHEMA = 1
"""Raised whenever a record's meaning changes; a store of another schema is not read."""

MOST_QUERIES = 2**16 - 1
"""Queries of a tile that `counts`, and the keys of segments, can tell apart."""

Kind = Literal["scores", "queries", "exact"]
"""What is kept per tile; `exact` is a query record of all queries in float16."""


@dataclass(frozen=True)
class Layout:
    """The arrays of a store: what each chunk looks like."""

    kind: Kind
    num_classes: int
    num_queries: int
    cells: tuple[int, int]

    @cached_property
    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and type of a tile's chunk, by array."""
        if self.kind == "scores":
            return {"scores": ((self.num_classes, *self.cells), "u2")}
        return {
            "masks": ((self.num_queries, *self.cells), "f2" if self.kind == "exact" else "u1"),
            "class_probs": ((self.num_queries, self.num_classes + 1), "f4"),
            "boxes": ((self.num_queries, 4), "u2"),
            "counts": ((1,), "u2"),
        }

    @property
    def tile_bytes(self) -> int:
        """Bytes of one tile's record before compression."""
        return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in self.arrays.values())


class Store:
    """The records of one run.

    Args:
        folder: Where they lie.
        plan: The tiles.
        layout: The arrays.
    """

    def __init__(self, folder: AnyPath, plan: TilePlan, layout: Layout) -> None:
        self.folder = folder
        self.plan = plan
        self.layout = layout
        self._readers: dict[AnyPath, tuple[Any, ShardReader]] = {}

    def create(self) -> None:
        """Write the schema and all arrays' metadata; no record yet."""
        side, attributes = self.plan.block_size, {"schema": SCHEMA, "kind": self.layout.kind}
        group = zarr.create_group(zarr_store(self.folder), zarr_format=3, attributes=attributes)
        for name, (shape, dtype) in self.layout.arrays.items():
            group.create_array(
                name,
                shape=(*self.plan.grid, *shape),
                dtype=dtype,
                chunks=(1, 1, *shape),
                shards=(side, side, *shape),
                compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
            )
        group.create_array(
            "valid", shape=self.plan.shape, dtype="u1", fill_value=1, chunks=self._valid_chunk,
            compressors=BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
        )  # fmt: skip

    @cached_property
    def _valid_chunk(self) -> tuple[int, int]:
        """A tile block's own pixels are whole chunks of `valid`, so that each chunk has one writer."""
        return self.plan.block_size * self.plan.rows.stride, self.plan.block_size * self.plan.cols.stride

    @cached_property
    def _valid(self) -> zarr.Array[Any]:
        return zarr.open_array(zarr_store(self.folder / "valid"), mode="r+")

    @contextmanager
    def writer(self, block: TileBlock) -> Iterator[Callable[[Tile, dict[str, NDArray[Any]]], None]]:
        """A function that takes the record of one tile; the block's shards appear when the context ends well."""
        with ExitStack() as stack:
            shards = {
                name: stack.enter_context(new_shard(self._shard(name, *block.index), self._grid(name)))
                for name in self.layout.arrays
            }

            def write(tile: Tile, record: dict[str, NDArray[Any]]) -> None:
                for name, shard in shards.items():
                    shard.add(self._position(name, tile), record[name])

            yield write

    def write_nothing(self, block: TileBlock) -> None:
        """Leave a block as if the raster had nothing but nodata there."""
        with self.writer(block):
            pass
        self.write_valid(block, np.zeros((block.owned.height, block.owned.width), bool))

    def write_valid(self, block: TileBlock, valid: NDArray[np.bool_]) -> None:
        """Write the validity of the block's own pixels."""
        self._valid[block.owned.slices] = valid.astype(np.uint8)

    def objects(self, block: TileBlock) -> list[AnyPath]:
        """The files that hold the block: its shards, and the chunks of `valid` that are stored."""
        shards = [self._shard(name, *block.index) for name in self.layout.arrays]
        height, width = self._valid_chunk
        owned = block.owned
        chunks = [
            self.folder / "valid" / "c" / str(row) / str(col)
            for row in range(owned.row // height, -(-owned.bottom // height))
            for col in range(owned.col // width, -(-owned.right // width))
        ]
        return shards + [chunk for chunk in chunks if chunk.exists()]

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """Where the raster has data, (height, width)."""
        return np.asarray(self._valid[window.slices]).astype(bool)

    def read(self, name: str, tile: Tile) -> NDArray[Any] | None:
        """One array of a tile's record, or None for a tile that is nodata all over."""
        side = self.plan.block_size
        return self._reader(name, tile.row // side, tile.col // side).read(self._position(name, tile))

    def _reader(self, name: str, row: int, col: int) -> ShardReader:
        """The reader of a shard as it is now: a worker may live on while another run writes the block again."""
        path = self._shard(name, row, col)
        now = stamp(path)
        if self._readers.get(path, (None,))[0] != now:
            shape, dtype = self.layout.arrays[name]
            self._readers[path] = now, ShardReader(path, self._grid(name), shape, dtype)
        return self._readers[path][1]

    def masks(self, tile: Tile) -> NDArray[Any] | None:
        """Mask codes (Q, h, w) of a tile, the differences along the rows undone."""
        masks = self.read("masks", tile)
        return masks if masks is None or masks.dtype != np.uint8 else undo_differences(masks)

    def queries(self, tile: Tile) -> TileQueries | None:
        """The queries that a tile has kept; None for a tile that is nodata all over."""
        counts = self.read("counts", tile)
        if counts is None:
            return None
        found = [self.read(name, tile) for name in ("masks", "class_probs", "boxes")]
        masks, probs, places = (array[: int(counts[0])] for array in found if array is not None)
        return TileQueries(undo_differences(masks), probs, self._valid_cells(tile), places)

    def _valid_cells(self, tile: Tile) -> NDArray[np.bool_]:
        """The cells of a tile with any data; none lies beyond the raster."""
        rows, cols = self.layout.cells
        inner = tile.window.intersect(self.plan.raster)
        pixels = np.zeros((tile.window.height, tile.window.width), bool)
        pixels[inner.within(tile.window)] = self.valid(inner)
        cells = pixels.reshape(rows, tile.window.height // rows, cols, tile.window.width // cols)
        return np.asarray(cells.any((1, 3)))

    def _grid(self, name: str) -> tuple[int, ...]:
        """Chunks per axis of a shard."""
        side = self.plan.block_size
        return side, side, *(1 for _ in self.layout.arrays[name][0])

    def _shard(self, name: str, row: int, col: int) -> AnyPath:
        zeros = ["0"] * len(self.layout.arrays[name][0])
        return self.folder.joinpath(name, "c", str(row), str(col), *zeros)

    def _position(self, name: str, tile: Tile) -> tuple[int, ...]:
        side = self.plan.block_size
        return tile.row % side, tile.col % side, *(0 for _ in self.layout.arrays[name][0])


def query_record(masks: NDArray[Any], class_probs: NDArray[np.float32], count: int) -> dict[str, NDArray[Any]]:
    """A tile's query record: boxes and counts added, uint8 masks turned into differences along their rows."""
    stored = differences(masks) if masks.dtype == np.uint8 else masks
    above = masks > (0 if masks.dtype == np.uint8 else -8)
    return {
        "masks": stored,
        "class_probs": class_probs,
        "boxes": boxes(above),
        "counts": np.array([count], np.uint16),
    }


def differences(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each cell less its left neighbour, modulo 256: smooth masks become small numbers."""
    return np.diff(codes, axis=-1, prepend=np.uint8(0))


def undo_differences(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The codes again: sums of 2, 4, 8, ... differences, which a processor makes many of at a time."""
    codes, step = stored.copy(), 1
    while step < codes.shape[-1]:
        codes[..., step:] += codes[..., :-step]
        step *= 2
    return codes


def boxes(above: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Top, left, bottom, right (exclusive) of what is set in each of (Q, h, w); four zeros where nothing is."""
    result = np.zeros((len(above), 4), np.uint16)
    for axis, (first, last) in ((2, (0, 2)), (1, (1, 3))):
        line: NDArray[np.bool_] = np.any(above, axis=axis)
        some = line.any(1)
        result[some, first] = line[some].argmax(1)
        result[some, last] = line.shape[1] - line[some, ::-1].argmax(1)
    return result
