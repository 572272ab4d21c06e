"""Which windows of attention fit the maps of a tile, and which tiles have such windows; no torch."""

import math
from collections.abc import Sequence

from eomt_core.errors import TileSizeError

LEAST_SHARE = 4
"""A window may be this many times smaller than the nominal one, or than its map; below, a stage would hardly attend."""


def choose_windows(
    size: tuple[int, int], nominal: Sequence[int | None], strides: Sequence[int]
) -> tuple[int | None, ...]:
    """Choose per stage the largest window that divides rows and columns of its map and is not above the nominal one.

    Windows have no parameters, so the same weights run with any.

    Args:
        size: rows and columns of pixels.
        nominal: side of the windows per stage, or None for the whole map.
        strides: pixels per cell of each stage's map.

    Raises:
        TileSizeError: a stage is left with windows far below the nominal; the message has the nearest valid squares.
    """
    found = [_window(size, wanted, stride) for wanted, stride in zip(nominal, strides, strict=True)]
    if 0 in found:
        near = sorted(valid_sides(nominal, strides, size[0] + size[1]), key=lambda side: abs(side - max(size)))[:3]
        listed = ", ".join(f"{side}x{side}" for side in sorted(near))
        raise TileSizeError(
            f"tile size {size[0]}x{size[1]}: its maps do not divide into windows of "
            f"{', '.join('all' if side is None else str(side) for side in nominal)} cells or nearly as many; "
            f"take one near it such as {listed}"
        )
    return tuple(found)


def valid_sides(nominal: Sequence[int | None], strides: Sequence[int], most: int) -> list[int]:
    """List the sides of square tiles, up to so many pixels, whose maps divide into windows."""
    pairs = list(zip(nominal, strides, strict=True))
    return [
        side
        for side in range(strides[-1], most + 1, strides[-1])
        if all(_window((side, side), wanted, stride) != 0 for wanted, stride in pairs)
    ]


def _window(size: tuple[int, int], nominal: int | None, stride: int) -> int | None:
    """The window of one stage; 0 where only far smaller ones divide the map."""
    if nominal is None:
        return None
    rows, columns = (length // stride for length in size)
    shared = math.gcd(rows, columns)
    side = max(divisor for divisor in range(1, nominal + 1) if shared % divisor == 0)
    return side if side * LEAST_SHARE >= min(nominal, rows, columns) else 0
