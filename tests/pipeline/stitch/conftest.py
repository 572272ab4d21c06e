"""Tiles that say exactly what is there, or what a test makes them say."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.stitch.queries import QueryReader, TileQueries
from pipeline.store import boxes
from pipeline.tiling import Tile, TilePlan

SURE_CODE, NEVER_CODE = 248, 0
"""Logits of 7.5 and of -8."""

Ids = NDArray[np.int64]
Tell = Callable[..., QueryReader]


def sure(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Codes of masks (n, H, W), a cell for each pixel."""
    return np.where(masks, SURE_CODE, NEVER_CODE).astype(np.uint8)


def told(
    truth: Ids,
    valid: NDArray[np.bool_] | None = None,
    skip: tuple[int, ...] = (),
    draw: Callable[[NDArray[np.bool_]], NDArray[np.uint8]] = sure,
    stride: int = 1,
) -> QueryReader:
    """A reader of perfect tiles: one query for every object of `truth` (H, W) that a tile sees, all of one class.

    Args:
        truth: ids, 0 for none.
        valid: where there is data; default: everywhere.
        skip: ranks of tiles that were left out.
        draw: codes (n, H / stride, W / stride) of masks (n, H, W).
        stride: pixels a side of a cell.
    """
    known = np.ones(truth.shape, bool) if valid is None else valid

    def read(tile: Tile) -> TileQueries | None:
        seen = windowed(known, tile)
        if tile.rank in skip or not seen.any():
            return None
        ids = windowed(truth, tile)
        masks = draw(np.array([ids == number for number in np.unique(ids) if number]).reshape(-1, *ids.shape))
        rows, cols = (size // stride for size in seen.shape)
        return queries_of(masks, seen.reshape(rows, stride, cols, stride).any((1, 3)))

    return read


def windowed(array: NDArray[np.generic], tile: Tile) -> NDArray[np.generic]:
    """A tile's part of an array (H, W), zeros where it overhangs."""
    part = array[tile.window.slices]
    spare = [(0, full - size) for full, size in zip(tile.window[2:], part.shape, strict=True)]
    return np.pad(part, spare)


def queries_of(masks: NDArray[np.uint8], valid: NDArray[np.bool_]) -> TileQueries:
    """Sure queries of one tile's masks (n, h, w)."""
    return TileQueries(masks, np.tile(np.float32([0.95, 0.05]), (len(masks), 1)), valid, boxes(masks > 0))


@pytest.fixture(scope="session")
def numbered() -> Callable[[Ids], Ids]:
    """`numbered(ids)`: ids by their first pixel, 0 for none, so that two maps of the same objects are equal."""

    def by_first_pixel(ids: Ids) -> Ids:
        _, first, place = np.unique(ids, return_index=True, return_inverse=True)
        return np.where(ids > 0, first[place].reshape(ids.shape) + 1, 0)

    return by_first_pixel


@pytest.fixture(scope="session")
def tell() -> Tell:
    """See `told`."""
    return told


@pytest.fixture(scope="session")
def plan_of() -> Callable[..., TilePlan]:
    """`plan_of(shape, overlap, tile=64)`: square tiles on a lattice of 16, one pixel a cell."""

    def plan(shape: tuple[int, int], overlap: int, tile: int = 64) -> TilePlan:
        return TilePlan(shape, (tile, tile), (overlap, overlap), 16)

    return plan
