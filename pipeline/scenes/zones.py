"""The plan of a landscape: zones of one use each, and the roads between them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.canvas import Canvas
from pipeline.scenes.noise import Field


@dataclass(frozen=True)
class Uses:
    """What the zones of a landscape are used for.

    Attributes:
        always: What it has in any case, in the order of need; large zones are given first.
        often: What the other zones are.
        clear: Whether the picture is taken on a clear day.
    """

    always: tuple[str, ...]
    often: tuple[str, ...]
    clear: bool = False


MIXED = Uses(
    ("town", "park", "sea", "desert"),
    ("villas", "halls", "town", "farm", "rings", "downtown", "villas", "construction"),
)
HOMELY = Uses(
    ("town", "park", "sea", "desert"),
    ("villas", "town", "rings", "park", "villas", "town", "rings", "desert"),
    clear=True,
)
"""No fields, and none of the halls, towers and building sites whose yards are no building; on a clear day."""

WET = ("sea",)


@dataclass(frozen=True)
class Zones:
    """Who owns each pixel.

    Attributes:
        uses: Use of each zone.
        owner: Zone of each pixel (H, W).
        neighbour: The nearest other zone (H, W).
        border: Distance to it in pixels, about, (H, W).
        widths: Width of the road between two zones in pixels, 0 for none, (Z, Z).
    """

    uses: tuple[str, ...]
    owner: NDArray[np.uint8]
    neighbour: NDArray[np.uint8]
    border: Field
    widths: Field

    @property
    def road(self) -> Field:
        """Width of the road on the nearest border (H, W)."""
        return self.widths[self.owner, self.neighbour]

    def parts(self, canvas: Canvas) -> Iterator[tuple[str, Canvas]]:
        """Each zone's use, and what its roads leave of it."""
        edge = self.border - self.road / 2
        for zone, use in enumerate(self.uses):
            if (free := (self.owner == zone) & (edge > 0)).any():
                yield use, canvas.part(free, edge)


def lay_out(canvas: Canvas, used: Uses = MIXED) -> Zones:
    """Divide the canvas: each pixel belongs to the nearest of some points on the bent grid."""
    side, rng = len(canvas.classes), canvas.rng
    count = int(np.clip(round((side / 1024) ** 2 * 7), 5, 40))
    points = _spread_points(count, rng) * side
    first, second, owner, neighbour = _two_nearest(canvas, points)
    gaps = np.hypot(*(points[:, None] - points).transpose(2, 0, 1)).astype(np.float32)
    border = (second - first) / np.maximum(2 * gaps[owner, neighbour], 1)
    uses = _uses(np.bincount(owner.ravel(), minlength=count), used, rng)
    return Zones(uses, owner, neighbour, border, _widths(uses, rng))


def _spread_points(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points of the unit square, each the farthest from those before it of a few tries."""
    points = rng.uniform(0.15, 0.85, (1, 2))
    while len(points) < count:
        tries = rng.uniform(0, 1, (6, 2))
        distance = np.hypot(*(tries[:, None] - points).transpose(2, 0, 1)).min(1)
        points = np.vstack([points, tries[distance.argmax()]])
    return points


def _two_nearest(
    canvas: Canvas, points: NDArray[np.float64]
) -> tuple[Field, Field, NDArray[np.uint8], NDArray[np.uint8]]:
    """Squared distance to the nearest and second nearest point, and their numbers, (H, W) each."""
    first, second = (np.full(canvas.shape, 1e12, np.float32) for _ in range(2))
    owner, neighbour = (np.zeros(canvas.shape, np.uint8) for _ in range(2))
    for number, (row, col) in enumerate(points.astype(np.float32)):
        square = (canvas.rows - row) ** 2 + (canvas.cols - col) ** 2
        nearest, near = square < first, square < second
        neighbour = np.where(nearest, owner, np.where(near, np.uint8(number), neighbour))
        second = np.where(nearest, first, np.minimum(second, square))
        owner[nearest], first = number, np.minimum(first, square)
    return first, second, owner, neighbour


def _uses(areas: NDArray[np.intp], used: Uses, rng: np.random.Generator) -> tuple[str, ...]:
    """A use for each zone: what every landscape has goes to the largest zones."""
    needed = list(used.always)
    rest = [str(use) for use in rng.permutation(np.resize(used.often, max(len(areas) - len(needed), len(used.often))))]
    uses = dict(zip(np.argsort(-areas, kind="stable").tolist(), needed + rest, strict=False))
    return tuple(uses[zone] for zone in range(len(areas)))


def _widths(uses: tuple[str, ...], rng: np.random.Generator) -> Field:
    """Road widths (Z, Z) by the uses on both sides."""
    widths = rng.choice([14, 18, 22, 28], (len(uses), len(uses)), p=[0.3, 0.3, 0.25, 0.15]).astype(np.float32)
    wet = np.array([use in WET for use in uses])
    widths[wet] = widths[:, wet] = 0
    upper = np.triu(widths, 1)
    return upper + upper.T
