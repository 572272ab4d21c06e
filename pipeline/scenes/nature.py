"""Zones that people did not build: desert, sea, parks with ponds, farms, woods."""

import numpy as np
from scipy import ndimage

from pipeline.scenes.canvas import LAND, ROAD, VEGETATION, WATER, Canvas
from pipeline.scenes.noise import Field, Mask, fractal, pick, smooth_noise, turned
from pipeline.scenes.roads import lay_track, winding

SAND = np.array([0.81, 0.785, 0.78])
GRASS = np.array([0.26, 0.28, 0.195])
DEEP = np.array([[0.06, 0.065, 0.06], [0.09, 0.12, 0.08], [0.11, 0.17, 0.08], [0.05, 0.09, 0.10]])
SHARES = (0.45, 0.2, 0.15, 0.2)
"""How often water has each of the colours `DEEP`."""

DRY = np.array([0.47, 0.42, 0.34])


def lay_sand(canvas: Canvas, tone: float = 1.0) -> None:
    """Bare ground: broad patches from white to brown, and ripples of wind."""
    rng, shape = canvas.rng, canvas.shape
    patches = fractal(shape, 180, rng, 7, 0.68)
    colour = tone * SAND * rng.uniform(0.85, 1.1) * (1 + np.float32(0.11) * patches[..., None])
    dark = np.clip(fractal(shape, 120, rng, 6, 0.68) - rng.uniform(0.4, 1.2), 0, 1)[..., None]
    stain = np.array([[0.9, 1.0, 1.05], [1.15, 0.95, 0.8], [0.9, 1.05, 1.3]])[rng.integers(3)].astype(np.float32)
    colour = colour * (1 - 0.42 * dark * stain)
    along, _ = turned(canvas.rows, canvas.cols, rng.uniform(0, np.pi))
    ripples = np.sin(along / rng.uniform(4, 14) + 2.5 * fractal(shape, 90, rng, 4)) * np.clip(
        patches + rng.uniform(-1, 0.5), 0, 1
    )
    scars = np.clip(np.abs(fractal(shape, 70, rng, 4)) - 0.1, -0.1, 0) * rng.uniform(0, 2)
    canvas.lay(canvas.free, colour, LAND, grain=0.04 * ripples + scars + 0.035 * smooth_noise(shape, 1.6, rng))


def lay_desert(canvas: Canvas) -> None:
    """Sand with tracks, shrubs and heaps."""
    rng, shape = canvas.rng, canvas.shape
    lay_sand(canvas)
    _grade_ground(canvas)
    heaps = np.clip(fractal(shape, 26, rng, 3) - 1.8, 0, 1)
    canvas.height[canvas.free] += 3 * heaps[canvas.free]
    lay_tracks(canvas, int(rng.integers(1, 3)))
    shrubs = smooth_noise(shape, 2.6, rng) + 0.9 * smooth_noise(shape, 60, rng) > rng.uniform(3.2, 4.2)
    canvas.lay(shrubs & (canvas.classes == LAND), (0.3, 0.3, 0.25), height=1)


def _grade_ground(canvas: Canvas) -> None:
    """Rectangles that were levelled for something not yet built: lighter or darker, with a bank around."""
    rng = canvas.rng
    for _ in range(int(rng.integers(0, 4))):
        along, across = turned(canvas.rows, canvas.cols, rng.uniform(0, np.pi))
        at = rng.integers(0, canvas.shape)
        long, wide = rng.uniform(25, 90, 2)
        inside = np.minimum(long - np.abs(along - along[*at]), wide - np.abs(across - across[*at]))
        inside = inside + 2 * smooth_noise(canvas.shape, 20, rng)
        grain = 0.05 * fractal(canvas.shape, 30, rng, 5)
        canvas.lay(inside > 0, SAND * rng.uniform(0.6, 0.8), LAND, grain=grain)
        canvas.lay(inside > 4, SAND * rng.uniform(0.65, 1.2), LAND, grain=grain)


def lay_tracks(canvas: Canvas, count: int) -> None:
    """Unpaved tracks across, each bent in its own way."""
    rng = canvas.rng
    for _ in range(count):
        along, across = turned(canvas.rows, canvas.cols, rng.uniform(0, np.pi))
        bend = rng.uniform(10, 50) * np.sin(along / rng.uniform(60, 160) + rng.uniform(0, 6))
        middle = np.quantile(across[canvas.free], rng.uniform(0.25, 0.75))
        lay_track(
            canvas, np.abs(across - middle - bend).astype(np.float32), rng.uniform(10, 14), SAND * rng.uniform(0.8, 1.1)
        )


def lay_water(canvas: Canvas, mask: Mask, clear: float = 1.0) -> None:
    """Water: bright at its rim, dark or green where it is deep, with waves and drifting silt."""
    rng, shape = canvas.rng, canvas.shape
    mask = mask & canvas.free
    if not mask.any():
        return
    depth = ndimage.distance_transform_edt(mask).astype(np.float32) / np.float32(rng.uniform(4, 22) * clear)
    depth *= np.exp(0.5 * fractal(shape, 60, rng))
    shallow = np.exp(-depth)[..., None]
    body = rng.uniform(0.6, 1.2) * DEEP[rng.choice(len(DEEP), p=(0.5, 0, 0, 0.5) if canvas.clear else SHARES)]
    rim = np.array([[0.45, 0.5, 0.42], [0.35, 0.45, 0.38], [0.30, 0.34, 0.24]])[rng.integers(3)]
    silt = np.clip(0.3 * fractal(shape, 140, rng, 5) + 0.1, 0, 0.6)[..., None] * rng.uniform(0, 0.5)
    colour = body + (rim - body) * (0.9 * shallow + silt)
    along, _ = turned(canvas.rows, canvas.cols, rng.uniform(0, np.pi))
    waves = np.sin(along / rng.uniform(1.2, 3) + 4 * fractal(shape, 40, rng, 4)) * np.clip(
        smooth_noise(shape, 80, rng), 0, 1
    )
    canvas.lay(mask, colour.astype(np.float32), WATER, grain=0.07 * waves + 0.04 * smooth_noise(shape, 2, rng))
    if rng.random() < 0.3 and not canvas.clear:
        _glitter(canvas, mask)


def _glitter(canvas: Canvas, mask: Mask) -> None:
    """Brown and grainy where the sun is mirrored by small waves."""
    rng, shape = canvas.rng, canvas.shape
    patch = np.clip(fractal(shape, 200, rng, 4) - rng.uniform(-0.3, 0.8), 0, 1)
    sparks = np.exp(0.4 * smooth_noise(shape, 2.2, rng))
    light = (0.22 * rng.uniform(0.4, 1) * patch * sparks)[..., None] * np.array([1.25, 1.0, 0.7], np.float32)
    canvas.lay(mask, canvas.colour + light.astype(np.float32))


def lay_sea(canvas: Canvas) -> None:
    """Open water behind a beach, with woods of mangrove on parts of its coast."""
    rng, shape = canvas.rng, canvas.shape
    lay_sand(canvas, 1.05)
    coast = canvas.edge + 14 * fractal(shape, 120, rng, 4)
    flats = fractal(shape, 170, rng, 4, 0.45)
    wood = (coast < 46) & (fractal(shape, 150, rng, 4) > 0.35) & (coast > 14)
    lay_water(canvas, (coast > 18) & ~((flats > 1.7) & (coast > 40)), rng.uniform(1, 3))
    if not canvas.clear:
        plant_wood(canvas, wood)


def lay_canal(canvas: Canvas) -> None:
    """A canal between quays from side to side; roads bridge it."""
    rng = canvas.rng
    _, away = winding(canvas, rng.uniform(0.03, 0.1))
    away = np.where((canvas.classes == ROAD) | (canvas.classes == WATER), np.float32(99), away)
    half = rng.uniform(8, 20)
    canvas.lay(away < half + 4, SAND * rng.uniform(0.7, 1), LAND, grain=0.06 * smooth_noise(canvas.shape, 3, rng))
    lay_water(canvas, away < half, 0.5)


def lay_lake(canvas: Canvas, mask: Mask) -> None:
    """Still water with a bright bank."""
    bank = ndimage.binary_dilation(mask, iterations=3)
    canvas.lay(bank, SAND, LAND, grain=0.08 * smooth_noise(canvas.shape, 3, canvas.rng))
    lay_water(canvas, mask, 0.4)


def grass(canvas: Canvas, dry: float | Field = 0.0) -> Field:
    """Colours of grass (H, W, 3), from green to brown."""
    rng, shape = canvas.rng, canvas.shape
    dry = dry * 0.2 if canvas.clear else dry
    mixed = np.clip(dry + 0.2 * fractal(shape, 70, rng, 4), 0, 1)[..., None]
    green = GRASS * rng.uniform(0.8, 1.3) * np.array([rng.uniform(0.85, 1.15), 1, rng.uniform(0.85, 1.15)])
    colour = (green * (1 - mixed) + DRY * mixed) * (1 + 0.12 * fractal(shape, 24, rng)[..., None])
    return np.asarray(colour * (1 + 0.1 * smooth_noise(shape, 1.6, rng)[..., None]), np.float32)


def plant_wood(canvas: Canvas, mask: Mask) -> None:
    """Crowns that touch, dark between them: one mass of vegetation."""
    rng, shape = canvas.rng, canvas.shape
    crowns = smooth_noise(shape, 3.2, rng) + 0.5 * smooth_noise(shape, 9, rng)
    colour = GRASS * rng.uniform(0.5, 0.9) * (1 + 0.33 * crowns[..., None])
    canvas.lay(mask, colour.astype(np.float32), VEGETATION, height=4 + 0.8 * crowns)


def lay_park(canvas: Canvas) -> None:
    """Lawns between rough ground, with ponds, bunkers, a path and woods; as golf courses are."""
    rng, shape = canvas.rng, canvas.shape
    lay_sand(canvas, rng.uniform(0.7, 1))
    form = fractal(shape, 110, rng, 4, 0.45)
    lawn = form > rng.uniform(-0.9, -0.3)
    canvas.lay(lawn, grass(canvas, rng.uniform(0, 0.3)), VEGETATION)
    canvas.lay(form > 0.6, grass(canvas, 0.0) * 1.15, VEGETATION)
    plant_wood(canvas, fractal(shape, 60, rng, 4, 0.7) > 1.1)
    canvas.lay(lawn & (smooth_noise(shape, 22, rng) > 2.0), SAND * 1.12, LAND, grain=0.05 * smooth_noise(shape, 3, rng))
    lay_lake(canvas, (fractal(shape, 120, rng, 2) > 1.15) & (canvas.edge > 12))
    path = np.abs(fractal(shape, 240, rng, 2, 0.3) - rng.uniform(-0.3, 0.3)) * 100
    steep = np.hypot(*np.gradient(path)).astype(np.float32)
    away = path / np.maximum(steep, 0.3)
    canvas.lay((away < 4.5) & (canvas.classes != WATER), SAND * 0.9, ROAD, grain=0.06 * smooth_noise(shape, 3, rng))


def lay_farm(canvas: Canvas) -> None:
    """Fields with rows of plants, green, brown or bare, between tracks."""
    rng, shape = canvas.rng, canvas.shape
    lay_sand(canvas, 0.9)
    along, across = turned(canvas.rows, canvas.cols, rng.uniform(0, np.pi))
    long, wide = rng.uniform(90, 150), rng.uniform(45, 90)
    i = np.floor(along / long)
    across = across + pick(rng.uniform(0, wide, 61).astype(np.float32), i)  # so that fields do not form a chessboard
    j = np.floor(across / wide)
    a, b = along - i * np.float32(long), across - j * np.float32(wide)
    field = (np.minimum(a, long - a) > 7) & (np.minimum(b, wide - b) > 3)
    kind, dryness, tilt = (pick(rng.random(211).astype(np.float32), i, j, np.full_like(i, n)) for n in range(3))
    rows = np.sin(np.where(tilt > 0.5, a, b) * np.float32(2 * np.pi / rng.uniform(4, 7)))
    planted = field & (kind > 0.25)
    canvas.lay(planted, grass(canvas, dryness), VEGETATION, height=0.6 * rows + 0.6, grain=0.16 * rows)
    canvas.lay(field & ~planted, SAND * 0.72, LAND, grain=0.1 * fractal(shape, 30, rng))
    lay_track(canvas, np.minimum(a, long - a), 10, SAND * 0.95)
