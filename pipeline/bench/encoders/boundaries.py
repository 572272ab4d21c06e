"""Do the borders between classes lie where they should? A measure that large areas do not drown."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from pipeline.evaluate.labels import VOID, open_labels
from pipeline.mosaic.mosaic import open_mosaic
from pipeline.rasters.raster import Reader
from pipeline.tiling import Window

REACH = 3
"""Pixels that a border may lie aside and still be found."""

Mask = NDArray[np.bool_]


class Boundaries(NamedTuple):
    """Pixels on borders between two classes, whichever they are.

    Attributes:
        found: of the prediction.
        right: of these, those with a true border within `REACH`.
        true: of the truth.
        met: of these, those with a predicted border within `REACH`.
    """

    found: int = 0
    right: int = 0
    true: int = 0
    met: int = 0

    def __add__(self, other: object) -> "Boundaries":
        """Both together, as if they were of one image."""
        assert isinstance(other, Boundaries)
        return Boundaries(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 where nothing is found."""
        precision, recall = self.right / max(self.found, 1), self.met / max(self.true, 1)
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundaries_of(mosaic: Path, labels: Path) -> Boundaries:
    """Compare a mosaic's classes with labels, where both say something."""
    opened = open_mosaic(mosaic)
    truth = open_labels(labels, opened, "classes")
    with Reader(truth.raster) as reader:
        true = truth.read(reader, Window(0, 0, *opened.shape))
    found = np.asarray(opened.classes[:])
    return compare_boundaries(true, found, (true != VOID) & (found != opened.nodata))


def compare_boundaries(true: NDArray[np.integer], found: NDArray[np.integer], known: Mask) -> Boundaries:
    """Compare two maps of classes (H, W), where they are known."""
    wanted, made = _borders(true, known), _borders(found, known)
    right, met = (made & _near(wanted)).sum(), (wanted & _near(made)).sum()
    return Boundaries(int(made.sum()), int(right), int(wanted.sum()), int(met))


def _borders(classes: NDArray[np.integer], known: Mask) -> Mask:
    """Pixels whose neighbour below or to the right is of another class."""
    borders = np.zeros(classes.shape, bool)
    borders[:-1] |= (classes[:-1] != classes[1:]) & known[:-1] & known[1:]
    borders[:, :-1] |= (classes[:, :-1] != classes[:, 1:]) & known[:, :-1] & known[:, 1:]
    return borders


def _near(borders: Mask) -> Mask:
    rows, cols = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1]
    near: Mask = binary_dilation(borders, rows**2 + cols**2 <= REACH**2)
    return near
