"""Crops with their truth, as a loader gives them: plain arrays, known to loaders that load no torch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

IGNORE = -1
"""The label of a pixel whose truth is not known."""


class Batch(NamedTuple):
    """Crops with their truth, as a loader gives them.

    Attributes:
        pixels: (B, C, H, W) float32 in [0, 1].
        labels: (B, H, W) int32: class ids; for instances, ids of objects, 0 is background; `IGNORE` where not known.
    """

    pixels: NDArray[np.float32]
    labels: NDArray[np.int32]
