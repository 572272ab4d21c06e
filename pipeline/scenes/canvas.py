"""The canvas that a scene is drawn on: colour, class and height of every pixel."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.noise import Field, Mask, smooth_noise

CLASSES = ("building", "land", "road", "vegetation", "water")
BUILDING, LAND, ROAD, VEGETATION, WATER = range(5)


@dataclass(frozen=True)
class Canvas:
    """A part of the ground, or all of it; parts share the arrays of the whole.

    Attributes:
        colour: Red, green, blue in sunlight, about 0 to 1, (H, W, 3).
        classes: Index into `CLASSES`, (H, W).
        height: Metres above the ground, (H, W); it makes shadows and slopes.
        rows: Rows of a bent grid (H, W): what is straight in it is curved on the ground.
        cols: Its columns.
        free: Where this part may be drawn on (H, W).
        edge: Distance to the border of `free` in pixels, about, (H, W).
        rng: Source of everything random.
        clear: Whether land and water look alike as little as they may: blue water, green grass, a clear day.
    """

    colour: Field
    classes: NDArray[np.uint8]
    height: Field
    rows: Field
    cols: Field
    free: Mask
    edge: Field
    rng: np.random.Generator
    clear: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.classes.shape[0], self.classes.shape[1]

    def lay(
        self,
        mask: Mask,
        colour: Any,
        kind: int | None = None,
        height: Any = 0,
        grain: Field | None = None,
    ) -> Mask:
        """Cover pixels with a surface, and say which.

        Args:
            mask: Where (H, W); only `free` pixels are covered.
            colour: Red, green, blue (3,), or of every pixel (H, W, 3).
            kind: Class; none keeps what is there.
            height: Metres, or of every pixel (H, W).
            grain: Relative change of brightness (H, W).
        """
        mask = mask & self.free
        colour = np.asarray(colour, np.float32)
        new = colour[mask] if colour.ndim == 3 else colour
        self.colour[mask] = new if grain is None else new * (1 + grain[mask, None])
        self.height[mask] = height[mask] if isinstance(height, np.ndarray) else height
        if kind is not None:
            self.classes[mask] = kind
        return mask

    def part(self, free: Mask, edge: Field) -> "Canvas":
        """The smallest rectangle around some pixels, as a canvas on which only these can be drawn."""
        rows, cols = np.flatnonzero(free.any(1)), np.flatnonzero(free.any(0))
        return self.window(np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1], free, edge)

    def window(self, box: tuple[slice, slice], free: Mask | None = None, edge: Field | None = None) -> "Canvas":
        """A rectangle, as a canvas; what is free there and its border may be others than the whole's."""
        free, edge = self.free if free is None else free, self.edge if edge is None else edge
        return Canvas(
            self.colour[box],
            self.classes[box],
            self.height[box],
            self.rows[box],
            self.cols[box],
            free[box],
            edge[box],
            self.rng,
            self.clear,
        )


def blank_canvas(side: int, rng: np.random.Generator, clear: bool = False) -> Canvas:
    """Bare canvas of side x side pixels, all of it land."""
    shape = (side, side)
    rows, cols = (axis.astype(np.float32) for axis in np.mgrid[:side, :side])
    for axis in (rows, cols):
        axis += 28 * smooth_noise(shape, 330, rng) + 4 * smooth_noise(shape, 110, rng)
    return Canvas(
        np.zeros((*shape, 3), np.float32),
        np.full(shape, LAND, np.uint8),
        np.zeros(shape, np.float32),
        rows,
        cols,
        np.ones(shape, np.bool_),
        np.full(shape, side, np.float32),
        rng,
        clear,
    )
