"""Roads: their layers from verge to lane line, highways, roundabouts, tracks and cars."""

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.canvas import LAND, ROAD, VEGETATION, Canvas
from pipeline.scenes.noise import Field, Mask, fractal, pick, smooth_noise, turned
from pipeline.scenes.zones import Zones

PAVING = (0.52, 0.49, 0.48)
LINES = (0.62, 0.60, 0.58)
CARS = np.array([[0.9, 0.9, 0.9], [0.75, 0.75, 0.78], [0.12, 0.12, 0.14], [0.5, 0.12, 0.1], [0.2, 0.25, 0.4]])


def asphalt(rng: np.random.Generator) -> NDArray[np.float64]:
    """A colour (3,) from fresh and dark to old and grey."""
    return rng.uniform(0.17, 0.42) * np.array([1.06, 0.98, 0.97])


def lay_road(canvas: Canvas, away: Field, along: Field, width: Field | float, tone: Field) -> Mask:
    """Lay a street of one or two carriageways.

    Args:
        canvas: What to draw on.
        away: Distance from its middle in pixels (H, W).
        along: Length along it in pixels (H, W).
        width: From kerb to kerb, or of every pixel (H, W).
        tone: Colour of the asphalt.

    Returns:
        The pixels that are road.
    """
    half = np.asarray(width, np.float32) / 2
    wear = 0.08 * smooth_noise(canvas.shape, 60, canvas.rng) + 0.05 * smooth_noise(canvas.shape, 3, canvas.rng)
    wear -= 0.10 * np.exp(-(((away / np.maximum(half, 1) - 0.5) / 0.18) ** 2))  # the lane that is driven on
    road = canvas.lay(away < half, tone, ROAD, grain=wear)
    canvas.lay(road & (half >= 7) & (np.abs(away - half + 1) < 0.6), LINES)
    dashed = (along % 12 < 5) & (np.abs(away - half / 2) < 0.6)
    canvas.lay(road & (half >= 7) & dashed, LINES)
    canvas.lay(road & (half >= 5.5) & (half < 9) & (away < 0.5) & (along % 9 < 5), LINES)
    canvas.lay(road & (half >= 9) & (away < 1.6), PAVING)
    return road


def lay_arterials(canvas: Canvas, zones: Zones) -> None:
    """The roads between zones, each pair's with an asphalt of its own, and roundabouts where three meet."""
    rng, width = canvas.rng, zones.road
    tones = np.stack([asphalt(rng) for _ in range(97)])
    low, high = np.minimum(zones.owner, zones.neighbour), np.maximum(zones.owner, zones.neighbour)
    tone = pick(tones, low, high).astype(np.float32)
    open_ground = (width > 0) & (canvas.classes != ROAD)  # streets that end at the road stay
    canvas.lay(open_ground & (zones.border < width / 2 + 3), PAVING, LAND)
    green = open_ground & (width > 12) & (pick(rng.random(97), low, high) < 0.5)
    grain = 0.12 * smooth_noise(canvas.shape, 2, rng)
    canvas.lay(green & (zones.border < width / 2 + 7), (0.27, 0.29, 0.2), VEGETATION, grain=grain)
    lay_road(canvas, zones.border, canvas.rows + 0.6 * canvas.cols, width, tone)
    for row, col in _junctions(zones):
        lay_roundabout(canvas, row, col, asphalt(rng))


def _junctions(zones: Zones) -> NDArray[np.intp]:
    """Where three roads meet (J, 2)."""
    owner = zones.owner
    corners = np.stack([owner[:-1, :-1], owner[1:, :-1], owner[:-1, 1:], owner[1:, 1:]])
    ordered = np.sort(corners, 0)
    many = (np.diff(ordered.astype(int), axis=0) > 0).sum(0) >= 2
    dry = ~np.isin(corners, [zone for zone, use in enumerate(zones.uses) if use == "sea"]).any(0)
    found: list[NDArray[np.intp]] = []
    for spot in np.argwhere(many & dry):
        if all(np.abs(spot - other).max() > 20 for other in found):
            found.append(spot)
    return np.array(found, np.intp).reshape(-1, 2)


def lay_roundabout(canvas: Canvas, row: int, col: int, tone: NDArray[np.float64]) -> None:
    """A ring of asphalt around a planted or paved island."""
    radius, top, left = canvas.rng.uniform(16, 26), max(row - 30, 0), max(col - 30, 0)
    canvas = canvas.window(np.s_[top : row + 30, left : col + 30])
    rows, cols = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
    distance = np.hypot(rows + top - row, cols + left - col).astype(np.float32)
    canvas.lay(distance < radius + 2, PAVING, LAND)
    canvas.lay(distance < radius, tone, ROAD, grain=0.05 * smooth_noise(canvas.shape, 3, canvas.rng))
    canvas.lay(distance < radius - 10, PAVING, VEGETATION)
    grass = np.array([0.25, 0.30, 0.18])
    canvas.lay(distance < radius - 11.5, grass, VEGETATION, grain=0.2 * smooth_noise(canvas.shape, 2, canvas.rng))


def lay_highway(canvas: Canvas) -> None:
    """Two carriageways of several lanes from side to side, over whatever lies there, on a broad verge."""
    rng = canvas.rng
    along, away = winding(canvas, rng.uniform(0.02, 0.09))
    lane, lanes, median = 4.0, int(rng.integers(3, 5)), rng.uniform(1.5, 5)
    verge = median + lane * lanes + 3
    sand = np.array([0.66, 0.64, 0.63])
    canvas.lay(away < verge + rng.uniform(3, 9), sand, LAND, grain=0.08 * fractal(canvas.shape, 20, rng))
    tone, wear = asphalt(rng), 0.05 * fractal(canvas.shape, 30, rng)
    canvas.lay(away < verge, tone * 1.25, ROAD, grain=wear)
    canvas.lay(np.abs(away - (median + verge) / 2 + 1) < lane * lanes / 2, tone, ROAD, grain=wear)
    lines = np.abs((away - median) / lane - np.round((away - median) / lane)) * lane < 0.45
    inside = (away > median) & (away < verge - 2)
    edge = (away < median + 1) | (away > verge - 4)
    canvas.lay(lines & inside & (edge | (along % 14 < 6)), LINES)
    canvas.lay(away < median - 1, sand * 0.8, ROAD, grain=wear)


def winding(canvas: Canvas, bend: float) -> tuple[Field, Field]:
    """Length along a winding line from side to side, and distance from it, (H, W) each; `bend` is a share of a side."""
    rng, side = canvas.rng, len(canvas.classes)
    rows, cols = (axis.astype(np.float32) for axis in np.mgrid[: canvas.shape[0], : canvas.shape[1]])
    middle = rng.uniform(0.25, 0.75, 2) * side
    along, across = turned(rows - np.float32(middle[0]), cols - np.float32(middle[1]), rng.uniform(0, np.pi))
    wave = side * rng.uniform(0.25, 0.5)
    phase = along / np.float32(wave) + np.float32(rng.uniform(0, 6))
    stretch = np.hypot(1, bend * side / wave * np.cos(phase)).astype(np.float32)
    return along, np.abs(across - np.float32(bend * side) * np.sin(phase)) / stretch


def lay_track(canvas: Canvas, away: Field, width: float, sand: NDArray[np.float64]) -> None:
    """An unpaved track: sand pressed flat, with two ruts and dark banks, on whatever is there."""
    grain = 0.06 * fractal(canvas.shape, 12, canvas.rng)
    half = width / 2
    canvas.lay(away < half + 1.6, sand * 0.66, grain=grain)
    canvas.lay(away < half, sand * 1.04, ROAD, grain=grain)
    canvas.lay(np.abs(away - 1.9) < 0.7, sand * 0.72, grain=grain)


def park_cars(canvas: Canvas, share: float = 0.003) -> None:
    """Cars of 2 x 4 pixels or so on the roads of the canvas."""
    rng = canvas.rng
    spots = np.argwhere(
        (canvas.classes == ROAD) & (canvas.colour[..., 0] < 0.45) & (rng.random(canvas.shape, np.float32) < share)
    )
    colours = CARS[rng.integers(0, len(CARS), len(spots))].astype(np.float32)
    tall = rng.random(len(spots)) < 0.5
    for step in range(8):
        down, right = np.where(tall, step // 2, step % 2), np.where(tall, step % 2, step // 2)
        rows = np.minimum(spots[:, 0] + down, canvas.shape[0] - 1)
        cols = np.minimum(spots[:, 1] + right, canvas.shape[1] - 1)
        on = canvas.classes[rows, cols] == ROAD
        canvas.colour[rows[on], cols[on]] = colours[on]
        canvas.height[rows[on], cols[on]] = 1
