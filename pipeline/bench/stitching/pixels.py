"""Queries enlarged from cells to pixels, as a model's own postprocessing does before its queries compete."""

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.label import enlarge
from pipeline.stitch.queries import TileQueries
from pipeline.store import boxes


def at_pixels(queries: TileQueries, stride: int) -> TileQueries:
    """The queries of a tile with a cell for each pixel, mask logits enlarged bilinearly.

    Args:
        queries: on cells.
        stride: pixels a side of a cell.
    """
    if stride == 1:
        return queries
    valid = queries.valid.repeat(stride, 0).repeat(stride, 1)
    masks = np.zeros((len(queries.masks), *valid.shape), np.uint8)
    for index, codes in enumerate(queries.masks):
        masks[index] = _enlarged(codes, stride)
    return TileQueries(masks, queries.class_probs, valid, boxes(masks > 0))


def _enlarged(codes: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """Codes (h, w) at their pixels (h·stride, w·stride), rounded."""
    fine = (2 * stride) ** 2
    around = np.pad(codes, 1, mode="edge").astype(np.int64)
    return ((enlarge(around, stride) + fine // 2) // fine).astype(np.uint8)
