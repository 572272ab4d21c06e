"""The eight ways to look at a square: test-time augmentation by mirroring and turning."""

from typing import NamedTuple

from torch import Tensor


class View(NamedTuple):
    """One element of the dihedral group: first transpose, then mirror.

    Attributes:
        transpose: Swap rows and columns.
        rows: Mirror top and bottom.
        cols: Mirror left and right.
    """

    transpose: bool = False
    rows: bool = False
    cols: bool = False

    def apply(self, image: Tensor) -> Tensor:
        """The view of images (..., H, W); (..., W, H) where it transposes."""
        turned = image.mT if self.transpose else image
        return turned.flip([axis for axis, mirror in ((-2, self.rows), (-1, self.cols)) if mirror])

    def undo(self, image: Tensor) -> Tensor:
        """The images again, from their view."""
        mirrored = image.flip([axis for axis, mirror in ((-2, self.rows), (-1, self.cols)) if mirror])
        return mirrored.mT if self.transpose else mirrored


FLIPS = (View(), View(rows=True), View(cols=True), View(rows=True, cols=True))

VIEWS = {"none": FLIPS[:1], "flips": FLIPS, "d4": FLIPS + tuple(view._replace(transpose=True) for view in FLIPS)}
"""The views that `--tta` names."""
