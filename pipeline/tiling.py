"""Where tiles, tile blocks and output blocks lie: integer geometry, no pixels.

Three units, three names. A *tile* is what the model sees. A *tile block* is a square of tiles that one INFER task
reads and infers. An *output block* is a rectangle of whole Zarr chunks (or shards) that one RENDER task writes.

All tile origins are multiples of the model's *lattice*, so that the cells of all tiles coincide and everything that is
blended can be blended on one global grid of cells.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import NamedTuple, Self

from pipeline.errors import UsageError

READ_SIDE = 2048
"""Pixels a super-window should have a side: below it, overlapping reads decode the file's blocks too often."""


class Window(NamedTuple):
    """A rectangle of pixels: rows first, as in arrays."""

    row: int
    col: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The first row below."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """The first column to the right."""
        return self.col + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array of the whole raster."""
        return slice(self.row, self.bottom), slice(self.col, self.right)

    def within(self, outer: Self) -> tuple[slice, slice]:
        """Rows and columns, to index an array of `outer`."""
        row, col = self.row - outer.row, self.col - outer.col
        return slice(row, row + self.height), slice(col, col + self.width)

    def intersect(self, other: Self) -> "Window":
        """The common part; its height or width is 0 where there is none."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height, width = min(self.bottom, other.bottom) - row, min(self.right, other.right) - col
        return Window(row, col, max(0, height), max(0, width))

    def __str__(self) -> str:
        return f"rows {self.row}..{self.bottom}, columns {self.col}..{self.right}"


def ceil_to(value: int, multiple: int) -> int:
    """The smallest multiple that is not below the value."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True, slots=True)
class Tile:
    """One model input. Its window may overhang the raster below and to the right; what overhangs is invalid."""

    row: int
    col: int
    rank: int
    window: Window


@dataclass(frozen=True, slots=True)
class SuperWindow:
    """Tiles of one tile block that are cut from one read."""

    window: Window
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Axis:
    """Tile origins along one axis: regular, but the last one, which slides back to end at the lattice edge.

    Args:
        size: Pixels of the raster.
        tile: Pixels of a tile, a multiple of the lattice.
        overlap: Pixels that neighbouring tiles share, a multiple of the lattice and below the tile.
        lattice: Pixels that all origins are multiples of.
    """

    size: int
    tile: int
    overlap: int
    lattice: int

    @property
    def stride(self) -> int:
        """Pixels from one origin to the next."""
        return self.tile - self.overlap

    @property
    def edge(self) -> int:
        """The raster's size, rounded up to the lattice: no tile ends beyond it but a lone one."""
        return ceil_to(self.size, self.lattice)

    @cached_property
    def origins(self) -> tuple[int, ...]:
        """Where the tiles begin, ascending."""
        last = max(0, self.edge - self.tile)
        return (*range(0, last, self.stride), last)

    def covering(self, start: int, stop: int) -> range:
        """The tiles that share pixels with start..stop."""
        origins = self.origins
        first = bisect_right(origins, start - self.tile)
        return range(first, max(first, bisect_right(origins, stop - 1)))


@dataclass(frozen=True)
class TileBlock:
    """The tiles that one INFER task reads and infers, and the pixels whose validity it records."""

    index: tuple[int, int]
    tiles: tuple[Tile, ...]
    owned: Window
    reads: tuple[SuperWindow, ...]

    @property
    def name(self) -> str:
        """The block's id in records and messages."""
        return f"{self.index[0]}-{self.index[1]}"

    @property
    def extent(self) -> Window:
        """All pixels that its tiles see."""
        first, last = self.tiles[0].window, self.tiles[-1].window
        return Window(first.row, first.col, last.bottom - first.row, last.right - first.col)


@dataclass(frozen=True)
class OutputBlock:
    """The pixels of the mosaic that one RENDER task writes, and nobody else."""

    index: tuple[int, int]
    window: Window

    @property
    def name(self) -> str:
        """The block's id in records and messages."""
        return f"{self.index[0]}-{self.index[1]}"


@dataclass(frozen=True)
class TilePlan:
    """The cover of a raster by tiles.

    Args:
        shape: Rows and columns of the raster.
        tile_size: Rows and columns of a tile, multiples of the lattice.
        overlap: Rows and columns that neighbours share; rounded up to the lattice.
        lattice: Pixels that all tile origins are multiples of.
        block_size: Tiles per side of a tile block.

    Raises:
        UsageError: A tile size off the lattice, or an overlap that leaves no stride.
    """

    shape: tuple[int, int]
    tile_size: tuple[int, int]
    overlap: tuple[int, int]
    lattice: int
    block_size: int = 8

    def __post_init__(self) -> None:
        for size in self.tile_size:
            if size <= 0 or size % self.lattice:
                near = max(self.lattice, round(size / self.lattice) * self.lattice)
                raise UsageError(
                    f"--tile-size {self.tile_size[0]}x{self.tile_size[1]}: {size} is no multiple of {self.lattice}, "
                    f"the model's lattice; take {near}"
                )
        rounded = tuple(ceil_to(overlap, self.lattice) for overlap in self.overlap)
        for asked, overlap, size in zip(self.overlap, rounded, self.tile_size, strict=True):
            if asked < 0 or overlap >= size:
                rounded_up = f", {overlap} on the model's lattice," if overlap != asked else ""
                raise UsageError(
                    f"--overlap: {asked} pixels{rounded_up} must be at least 0 and less than the tile size ({size})"
                )
        object.__setattr__(self, "overlap", rounded)

    @cached_property
    def rows(self) -> Axis:
        """The axis of rows."""
        return Axis(self.shape[0], self.tile_size[0], self.overlap[0], self.lattice)

    @cached_property
    def cols(self) -> Axis:
        """The axis of columns."""
        return Axis(self.shape[1], self.tile_size[1], self.overlap[1], self.lattice)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return len(self.rows.origins), len(self.cols.origins)

    @property
    def raster(self) -> Window:
        """All pixels."""
        return Window(0, 0, *self.shape)

    def __len__(self) -> int:
        return self.grid[0] * self.grid[1]

    def tile(self, row: int, col: int) -> Tile:
        """The tile in that row and column of the grid."""
        window = Window(self.rows.origins[row], self.cols.origins[col], *self.tile_size)
        return Tile(row, col, row * self.grid[1] + col, window)

    def covering(self, window: Window) -> list[Tile]:
        """The tiles that share pixels with the window, by rank."""
        rows = self.rows.covering(window.row, window.bottom)
        cols = self.cols.covering(window.col, window.right)
        return [self.tile(row, col) for row, col in product(rows, cols)]

    @property
    def block_grid(self) -> tuple[int, int]:
        """Rows and columns of tile blocks."""
        rows, cols = self.grid
        return -(-rows // self.block_size), -(-cols // self.block_size)

    def blocks(self) -> Iterator[TileBlock]:
        """The tile blocks, row by row."""
        return (self.block(row, col) for row, col in product(*map(range, self.block_grid)))

    def block(self, row: int, col: int) -> TileBlock:
        """The tile block in that row and column of the block grid."""
        rows, cols = self._members(self.rows, row), self._members(self.cols, col)
        top, bottom = self._owned(self.rows, row, self.block_grid[0])
        left, right = self._owned(self.cols, col, self.block_grid[1])
        reads = tuple(
            self._read(some_rows, some_cols)
            for some_rows, some_cols in product(self._groups(self.rows, rows), self._groups(self.cols, cols))
        )
        tiles = tuple(tile for read in reads for tile in read.tiles)
        return TileBlock((row, col), tiles, Window(top, left, bottom - top, right - left), reads)

    def _members(self, axis: Axis, index: int) -> range:
        """The tiles of one axis that are in the block."""
        return range(index * self.block_size, min((index + 1) * self.block_size, len(axis.origins)))

    def _owned(self, axis: Axis, index: int, blocks: int) -> tuple[int, int]:
        """The pixels of one axis that only this block answers for: a whole number of strides, the last one the rest."""
        side = self.block_size * axis.stride
        return index * side, axis.size if index == blocks - 1 else (index + 1) * side

    def _groups(self, axis: Axis, members: range) -> list[range]:
        """The block's tiles along one axis in even runs, each at least a super-window long where the block is."""
        needed = max(1, -(-(READ_SIDE - axis.overlap) // axis.stride))
        count = max(1, len(members) // needed)
        cuts = [members.start + len(members) * i // count for i in range(count + 1)]
        return [range(start, stop) for start, stop in pairwise(cuts)]

    def _read(self, rows: range, cols: range) -> SuperWindow:
        tiles = tuple(self.tile(row, col) for row, col in product(rows, cols))
        first, last = tiles[0].window, tiles[-1].window
        whole = Window(first.row, first.col, last.bottom - first.row, last.right - first.col)
        return SuperWindow(whole.intersect(self.raster), tiles)


def output_blocks(shape: tuple[int, int], side: int) -> list[OutputBlock]:
    """The mosaic cut into squares of `side` pixels, row by row; those at the edge are smaller."""
    rows, cols = (range(-(-size // side)) for size in shape)
    return [output_block(shape, side, row, col) for row, col in product(rows, cols)]


def output_block(shape: tuple[int, int], side: int, row: int, col: int) -> OutputBlock:
    """One of them, in a row and column of blocks."""
    return OutputBlock((row, col), Window(row * side, col * side, side, side).intersect(Window(0, 0, *shape)))
