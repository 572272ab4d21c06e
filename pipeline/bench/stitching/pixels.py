"""Queries enlarged from cells to pixels, as a model's own postprocessing does before its queries compete."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.fuse import box_of
from pipeline.stitch.label import enlarge
from pipeline.stitch.queries import TileQueries


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
    limits = np.array([*queries.valid.shape] * 2)
    boxes = (np.asarray(queries.boxes, np.int64) + [-1, -1, 1, 1]).clip(0, limits)
    around = replace(queries, boxes=boxes)  # a mask may reach half a cell beyond its cells
    for index, mask in enumerate(queries.masks):
        rows, cols = box_of(around, index)
        here = slice(rows.start * stride, rows.stop * stride), slice(cols.start * stride, cols.stop * stride)
        masks[index][here] = _enlarged(
            np.pad(mask, 1, mode="edge")[rows.start : rows.stop + 2, cols.start : cols.stop + 2], stride
        )
    return TileQueries(masks, queries.class_probs, valid, boxes * stride)


def _enlarged(codes: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """Codes (h + 2, w + 2), rounded to codes of the inner cells' pixels."""
    fine = (2 * stride) ** 2
    return ((enlarge(codes.astype(np.int64), stride) + fine // 2) // fine).astype(np.uint8)
