"""What one tile says of the objects in it: its queries on the lattice of cells, and how sure they are, in integers.

Everything that is compared or added up is an integer: sums do not depend on their order then, and the same records
give the same bytes on every machine, with any number of workers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.tiling import Tile

LOGIT_UNIT, LOGIT_ZERO = 16, 128
"""A mask code is 16 times the logit plus 128."""

SURE = 2**12
"""The integer that stands for a score of 1."""

CERTAIN = 2**20
"""The integer that stands for a mask probability of 1: finer, as logits are taken of blended ones."""


@dataclass(frozen=True, eq=False)
class TileQueries:
    """The n queries of one tile, on its h x w cells.

    Attributes:
        masks: (n, h, w) uint8, mask logits times `LOGIT_UNIT` plus `LOGIT_ZERO`; 0 is as good as impossible.
        class_probs: (n, K + 1) float32, the last is "no object".
        valid: (h, w) bool, cells with any data.
        boxes: (n, 4) top, left, bottom, right of the cells with a code above 0.
    """

    masks: NDArray[np.uint8]
    class_probs: NDArray[np.float32]
    valid: NDArray[np.bool_]
    boxes: NDArray[np.integer]


QueryReader = Callable[[Tile], TileQueries | None]
"""Gives a tile's queries, or None for a tile that is nodata all over or was left out."""


@dataclass(frozen=True)
class Rules:
    """What a query must reach to count; see `eomt_core.postprocess.panoptic` for the first three.

    Attributes:
        score_threshold: class probability (for instances: times the mean mask probability inside) above which a query
            takes part.
        overlap_threshold: share of the cells that its mask claims which it must win.
        mask_threshold: probability from which a mask claims a cell.
        merge_threshold: likeness from which two segments of one class are one object.
        min_area: pixels below which an object is dropped.
        stuff: classes that have no objects.
        outlined: whether scores count the outline, as those of instances do.
    """

    score_threshold: float = 0.8
    overlap_threshold: float = 0.8
    mask_threshold: float = 0.5
    merge_threshold: float = 0.3
    min_area: int = 0
    stuff: frozenset[int] = field(default_factory=frozenset)
    outlined: bool = False


@lru_cache(maxsize=1)
def probabilities() -> NDArray[np.int64]:
    """The mask probability of each code, (256,), in units of 1 / `CERTAIN`; 0 for the code 0."""
    logits = (np.arange(256) - LOGIT_ZERO) / LOGIT_UNIT
    table = np.rint(CERTAIN / (1 + np.exp(-logits))).astype(np.int64)
    table[0] = 0
    table.setflags(write=False)
    return table


@lru_cache(maxsize=16)
def least_code(threshold: float) -> int:
    """The smallest code whose probability is at least the threshold."""
    logit = np.log(threshold) - np.log1p(-threshold)
    return int(np.clip(np.ceil(logit * LOGIT_UNIT - 1e-9) + LOGIT_ZERO, 1, 256))
