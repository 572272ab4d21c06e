"""Zones that people built: rows of houses on curved streets, halls, towers, building sites."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.canvas import BUILDING, LAND, ROAD, VEGETATION, Canvas
from pipeline.scenes.nature import SAND, grass, lay_lake, lay_sand, plant_wood
from pipeline.scenes.noise import Field, Mask, fractal, pick, ringed, smooth_noise, turned
from pipeline.scenes.roads import PAVING, asphalt, lay_road

ROOFS = np.array(
    [
        [0.88, 0.86, 0.84], [0.80, 0.78, 0.76], [0.70, 0.68, 0.68], [0.56, 0.54, 0.54], [0.42, 0.41, 0.42],
        [0.30, 0.29, 0.30], [0.20, 0.20, 0.22], [0.60, 0.44, 0.36], [0.46, 0.34, 0.29], [0.74, 0.67, 0.58],
        [0.52, 0.56, 0.64], [0.94, 0.93, 0.92], [0.62, 0.58, 0.50],
    ]
)  # fmt: skip
OPEN = 0.1
"""The share of blocks without houses."""

POOL = (0.30, 0.55, 0.62)


@dataclass(frozen=True)
class Style:
    """How a quarter is built; lengths in pixels.

    Attributes:
        street: Width of streets.
        depth: Depth of a plot, from its street to its neighbour's back.
        plot: Width of a plot.
        block: Length of a row of plots, from cross street to cross street.
        height: Lowest and highest house.
        built: Share of plots with a house.
        gap: Between houses, as a share of the plot.
        close: Rows are so close that house and yard together are what maps call built.
        yards: Share of yards that are green.
        roofs: Rows of `ROOFS` that are used.
    """

    street: float
    depth: float
    plot: float
    block: float
    height: tuple[float, float]
    built: float
    gap: float
    close: bool
    yards: float
    roofs: tuple[int, ...]


STYLES = {
    "town": Style(13, 28, 15, 200, (4, 8), 0.95, 0.13, True, 0.3, (0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 11)),
    "villas": Style(14, 36, 27, 240, (6, 10), 0.9, 0.2, True, 0.5, (0, 0, 1, 1, 2, 7, 9, 11)),
    "construction": Style(14, 40, 30, 220, (3, 9), 0.8, 0.3, False, 0.0, (1, 2, 3, 7, 8, 9, 12)),
    "halls": Style(16, 68, 50, 260, (7, 12), 0.8, 0.2, False, 0.02, (0, 1, 2, 3, 9, 10, 11)),
    "downtown": Style(16, 62, 52, 230, (18, 45), 0.7, 0.36, False, 0.15, (0, 2, 3, 4, 6, 10, 12)),
}


@dataclass(frozen=True)
class Plots:
    """Where each pixel lies in its plot; all (H, W).

    Attributes:
        inside: In a plot.
        street: Distance from the middle of the nearest street.
        along: Length along it.
        x: From the plot's left side, as a share of its width.
        y: From its street, in pixels.
        row: Numbers of its row and block: `pick` takes them.
        number: Its number in the row.
        centre: In the middle of rings.
    """

    inside: Mask
    street: Field
    along: Field
    x: Field
    y: Field
    row: tuple[Field, Field]
    number: Field
    centre: Mask


def lay_quarter(canvas: Canvas, use: str) -> None:
    """Streets, blocks between them, and on each block houses, a park, parking, a pond or nothing yet."""
    rng, style = canvas.rng, _varied(STYLES.get(use, STYLES["town"]), canvas.rng)
    lay_sand(canvas, 0.8 if style.close else 0.95)
    plots = _divide(canvas, style, use == "rings" or rng.random() < 0.3)
    blocks = pick(rng.random(499), *plots.row)
    open_block = blocks < OPEN
    houses = plots.inside & ~open_block
    if style.close:
        paths, grain = ~plots.inside & ~plots.centre, 0.08 * fractal(canvas.shape, 20, rng)
        canvas.lay(paths & open_block, PAVING, LAND, grain=grain)
        canvas.lay(paths & ~open_block, PAVING, BUILDING, grain=grain)
    _lay_yards(canvas, style, plots, houses)
    _lay_houses(canvas, style, plots, houses)
    _lay_open(canvas, plots, open_block, blocks / OPEN)
    lay_road(canvas, plots.street, plots.along, style.street, asphalt(rng))


def _varied(style: Style, rng: np.random.Generator) -> Style:
    """The same manner of building, a little larger or smaller."""
    scale = rng.uniform(0.88, 1.2)
    roofs = tuple(rng.choice(style.roofs, int(rng.integers(3, 7))).tolist())
    return replace(style, depth=style.depth * scale, plot=style.plot * scale, block=style.block * scale, roofs=roofs)


def _divide(canvas: Canvas, style: Style, rings: bool) -> Plots:
    """Plots along streets that are straight on the bent grid, or rings around a place."""
    rng, verge = canvas.rng, np.float32(style.street / 2 + 2.5)
    rows, cols = canvas.rows, canvas.cols
    if rings:
        at = rng.uniform(0.2, 0.8, 2) * canvas.shape
        u, v = ringed(rows - rows[0, 0], cols - cols[0, 0], at, 0.35 * max(canvas.shape))
    else:
        u, v = turned(rows, cols, rng.uniform(0, np.pi))
    pitch, length = np.float32(2 * style.depth + 2 * verge), np.float32(style.block)
    centre = (u < pitch - verge) & rings
    i, j = np.floor(u / pitch), np.floor(v / length)
    a, b = u - i * pitch, v - j * length
    across, along = np.minimum(a, pitch - a), np.minimum(b, length - b)
    count = np.float32(max(1, round((style.block - 2 * float(verge)) / style.plot)))
    place = (b - verge) / (length - 2 * verge) * count
    number = np.floor(place)
    along = np.where(centre, np.float32(99), along)
    inside = (across > verge) & (along > verge) & ~centre
    half = i * 2 + (a > pitch / 2)
    street = np.where(centre, pitch - u, np.minimum(across, along))
    length_along = np.where(across < along, v, u)
    return Plots(inside, street, length_along, place - number, across - verge, (half, j), number, centre)


def _lay_yards(canvas: Canvas, style: Style, plots: Plots, houses: Mask) -> None:
    """The ground around houses: paved, green or sand, each plot its own."""
    rng, shape = canvas.rng, canvas.shape
    kind = BUILDING if style.close else LAND
    luck = pick(rng.random(997), *plots.row, plots.number)
    grain = (0.16 * (pick(rng.random(499), *plots.row, plots.number) - 0.5)).astype(np.float32)
    grain += 0.10 * smooth_noise(shape, 2.5, rng)
    if style.close:
        canvas.lay(houses, np.array(PAVING) * rng.uniform(0.6, 1.15), kind, grain=grain)
        canvas.lay(houses & (luck < style.yards), grass(canvas, 0.2), kind, grain=grain)
        wall = (plots.x * style.plot < 0.9) | (np.abs(plots.y - style.depth) < 0.7)
        canvas.lay(houses & wall, SAND * 0.95, kind, height=1.5)
    else:
        canvas.lay(houses & (luck < style.yards), grass(canvas, 0.2), VEGETATION, grain=grain)
        canvas.lay(houses & (luck > 0.75), asphalt(rng) * 1.4, LAND, grain=grain)


def _lay_houses(canvas: Canvas, style: Style, plots: Plots, houses: Mask) -> None:
    """A house on most plots: a box with a notch or a court, a roof of its own, and a pool beside some."""
    rng = canvas.rng
    dice = pick(rng.random((1499, 10)).astype(np.float32), *plots.row, plots.number)
    left, right = style.gap * (0.2 + 1.1 * dice[..., 0]), 1 - style.gap * (0.2 + 1.1 * dice[..., 1])
    front, back = style.depth * (0.06 + 0.16 * dice[..., 2]), style.depth * (0.94 - 0.28 * dice[..., 3])
    x, y = (plots.x - left) / (right - left), (plots.y - front) / (back - front)
    x = np.where(dice[..., 4] < 0.5, x, 1 - x)
    box = houses & (x > 0) & (x < 1) & (y > 0) & (y < 1) & (dice[..., 5] < style.built)
    notch = (dice[..., 6] > 0.45) & (x > 0.55) & (y > 0.35 + 0.5 * dice[..., 7])
    court = (dice[..., 6] < 0.18) & (np.abs(x - 0.5) < 0.2) & (np.abs(y - 0.5) < 0.2) & (style.plot > 20)
    _lay_roofs(canvas, style, box & ~notch & ~court, x, y, dice)
    pool = (
        houses & notch & box & (np.hypot((x - 0.8) * 1.4, y - 0.8) < 0.18) & (dice[..., 8] < 0.5) & (style.yards > 0.2)
    )
    canvas.lay(pool, POOL)


def _lay_roofs(canvas: Canvas, style: Style, roof: Mask, x: Field, y: Field, dice: Field) -> None:
    """Roofs with parapets or ridges; tiles, tanks and dirt make them uneven."""
    rng, shape = canvas.rng, canvas.shape
    tints = ROOFS[list(style.roofs)]
    colour = tints[(dice[..., 8] * len(tints)).astype(int)]
    grain = 0.24 * (dice[..., 9] - 0.5) + 0.05 * smooth_noise(shape, 3, rng)
    low, high = style.height
    tall = low + (high - low) * dice[..., 7] ** 2
    ridged = dice[..., 4] < 0.35
    ridge = np.where(ridged, 3 - 6 * np.abs(y - 0.5), 0)
    canvas.lay(roof, colour.astype(np.float32), BUILDING, height=tall + ridge, grain=grain.astype(np.float32))
    rim = roof & ~ridged & ((np.minimum(x, 1 - x) < 0.06) | (np.minimum(y, 1 - y) < 0.05))
    canvas.lay(rim, colour.astype(np.float32) * 1.12, BUILDING, height=tall + 1)
    tanks = roof & ~ridged & (smooth_noise(shape, 3.5, rng) > 1.7)
    canvas.lay(tanks, (0.72, 0.72, 0.74), BUILDING, height=tall + 2)


def _lay_open(canvas: Canvas, plots: Plots, where: Mask, luck: NDArray[np.float64]) -> None:
    """Blocks without houses: parks, parking, ponds or sand."""
    rng, shape, where = canvas.rng, canvas.shape, where & plots.inside
    park, parking, pond = where & (luck < 0.4), where & (luck >= 0.4) & (luck < 0.65), where & (luck >= 0.85)
    park |= plots.centre
    canvas.lay(park, grass(canvas, rng.uniform(0, 0.5)), VEGETATION)
    plant_wood(canvas, park & (smooth_noise(shape, 12, rng) > 0.9))
    canvas.lay(parking, asphalt(rng) * 1.1, ROAD, grain=0.06 * smooth_noise(shape, 3, rng))
    bays = parking & (plots.y % 15 < 5)
    canvas.lay(bays & (plots.along % 3 < 0.8), (0.6, 0.6, 0.6))
    parked = bays & (plots.along % 3 > 0.9) & (plots.y % 15 < 4.4)
    tints = np.array([[0.9, 0.9, 0.9], [0.7, 0.7, 0.72], [0.15, 0.15, 0.17], [0.5, 0.15, 0.1], [0.25, 0.25, 0.26]])
    slot = pick(np.arange(499) % 10, np.floor(plots.along / 3), np.floor(plots.y / 15))
    canvas.lay(parked & (slot < 5), tints[np.minimum(slot, 4)].astype(np.float32), height=1)
    lay_lake(canvas, pond & (plots.y > 4 + 3 * smooth_noise(shape, 30, rng)) & canvas.free)
