"""Blended scores enlarged to pixels: the best class and how sure it is."""

from itertools import product
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.mosaic.codes import CERTAIN, NO_CONFIDENCE, Codes
from pipeline.stitch.blend import FINE, Blended
from pipeline.tiling import Window

SCORE_UNIT = 1024
"""The stored code of a score of 1."""

CONFIDENCE_UNIT = CERTAIN
"""The confidence code of a probability of 1."""

SIDE = 64
"""Cells a side of the blocks in which classes that cannot win are skipped."""


Integer = TypeVar("Integer", bound=np.integer)


class Labels(NamedTuple):
    """What a window of pixels is: `classes` (H, W) in the mosaic's codes, `confidence` (H, W) uint8."""

    classes: NDArray[np.unsignedinteger]
    confidence: NDArray[np.uint8]


def enlarge(plane: NDArray[Integer], stride: int) -> NDArray[Integer]:
    """Bilinear enlargement of cells (h + 2, w + 2) to the pixels of the inner ones, (h·stride, w·stride).

    The values come times (2·stride)²: with integer weights the result is exact, and the same whatever the window.
    Pixel centres are where `align_corners=False` puts them.
    """
    return _enlarge_rows(_enlarge_rows(plane, stride).T, stride).T


def _enlarge_rows(plane: NDArray[Integer], stride: int) -> NDArray[Integer]:
    rows = np.empty((plane.shape[0] - 2, stride, plane.shape[1]), plane.dtype)
    integer = plane.dtype.type
    for offset in range(stride):
        shift = 2 * offset + 1 - stride  # from the cell's centre, in half pixels
        nearest, other = plane[1:-1], plane[:-2] if shift < 0 else plane[2:]
        rows[:, offset] = nearest * integer(2 * stride - abs(shift)) + other * integer(abs(shift))
    return rows.reshape(-1, plane.shape[1])


def label(blended: Blended, stride: int, codes: Codes, places: int = 1) -> list[Labels]:
    """The best class of every pixel of the window's cells, (h·stride, w·stride), and so many places in all.

    Ties go to the lower class. Confidence is score / max(1, sum over classes). Where no class that is left has any
    score, the pixel is unlabelled.
    """
    height, width = (size - 2 for size in blended.known.shape)
    classes = np.full((places, height * stride, width * stride), codes.unlabelled, codes.dtype)
    confidence = np.zeros(classes.shape, np.uint8)
    for row, col in product(range(0, height, SIDE), range(0, width, SIDE)):
        rows, cols = slice(row, min(row + SIDE, height) + 2), slice(col, min(col + SIDE, width) + 2)
        part = Blended(blended.scores[:, rows, cols], blended.known[rows, cols])
        place = (slice(row * stride, (rows.stop - 2) * stride), slice(col * stride, (cols.stop - 2) * stride))
        _label_part(part, stride, classes[:, *place], confidence[:, *place])
    return [Labels(classes[place], confidence[place]) for place in range(places)]


def _label_part(
    part: Blended, stride: int, classes: NDArray[np.unsignedinteger], confidence: NDArray[np.uint8]
) -> None:
    best = np.zeros(classes.shape, part.scores.dtype)
    for index in candidates(part.scores, len(classes)).tolist():
        insert(best, classes, enlarge(part.scores[index], stride), index)
    whole = np.maximum(
        enlarge(part.known, stride).astype(np.uint64) * (SCORE_UNIT * FINE),
        enlarge(part.scores.sum(0, dtype=np.uint64), stride),
    )
    confidence[:] = np.rint(best * np.float64(CONFIDENCE_UNIT) / np.maximum(whole, 1))


def insert(best: NDArray[Any], kinds: NDArray[Any], values: NDArray[Any], kind: Any) -> None:
    """Put values (h, w) of a kind among the best so far (places, h, w), behind those that are as good."""
    for place in reversed(range(len(best))):
        better = values > best[place]
        for ranked, new in ((best, values), (kinds, kind)):
            if place + 1 < len(best):
                np.copyto(ranked[place + 1], ranked[place], where=better)
            np.copyto(ranked[place], new, where=better)


def candidates(scores: NDArray[np.unsignedinteger], places: int = 1) -> NDArray[np.intp]:
    """The classes that can come in so many first places somewhere between these cells, ascending; scores (K, h, w).

    A pixel's score is a convex combination of its cells' scores. So a class that is below others in every cell is
    below them in every pixel; and if these are as many as there are places, it needs no enlarging.
    """
    flat = scores.reshape(len(scores), -1)
    strongest = flat[np.argsort(flat.sum(1, dtype=np.uint64))[-places:]]
    return np.flatnonzero((flat >= strongest.min(0)).any(1) & flat.any(1))


def crop(labels: Labels, window: Window, stride: int, valid: NDArray[np.bool_], codes: Codes) -> Labels:
    """The window's own pixels out of those of its cells; invalid ones become nodata."""
    row, col = window.row % stride, window.col % stride
    place = (slice(row, row + window.height), slice(col, col + window.width))
    classes = np.where(valid, labels.classes[place], np.dtype(codes.dtype).type(codes.nodata))
    confidence = np.where(valid, labels.confidence[place], np.uint8(NO_CONFIDENCE))
    return Labels(classes, confidence)


def accept(labels: Labels, threshold: float, codes: Codes) -> Labels:
    """Pixels below the confidence threshold become unlabelled; their confidence stays, as that of the best rejected."""
    if threshold <= 0:
        return labels
    refused = labels.confidence < round(threshold * CONFIDENCE_UNIT)
    classes = np.where(refused, np.dtype(codes.dtype).type(codes.unlabelled), labels.classes)
    return labels._replace(classes=classes)
