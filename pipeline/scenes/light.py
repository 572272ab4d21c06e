"""From the drawn ground to the picture that a camera takes of it: sun, shadow, haze, lens, sensor."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.scenes.canvas import Canvas
from pipeline.scenes.noise import Field, smooth_noise

CLEAR = 0.1
"""How much of the variety of light and camera is left on a clear day."""


def take_picture(canvas: Canvas) -> NDArray[np.uint8]:
    """Pixels (3, H, W) of the canvas, under a sun and by a camera of this scene's own."""
    rng, variety = canvas.rng, CLEAR if canvas.clear else 1.0
    angle, slope = rng.uniform(0, 2 * np.pi), _near(rng.uniform(0.6, 1.4), 1.4, variety)
    sun = np.array([np.sin(angle), np.cos(angle)])
    colour = canvas.colour * _slopes(canvas.height, sun)[..., None]
    shadow = ndimage.gaussian_filter(_shadows(canvas.height, sun, slope), 0.6)[..., None]
    dark = rng.uniform(0.25, 0.45) * np.array([0.92, 1.0, 1.15], np.float32)
    colour = colour * (1 - shadow * (1 - dark.astype(np.float32)))
    return _develop(colour, rng, variety)


def _slopes(height: Field, sun: NDArray[np.float64]) -> Field:
    """Brightness (H, W) of slopes: more than 1 towards the sun."""
    down, right = np.gradient(ndimage.gaussian_filter(height, 0.6))
    return np.asarray(1 + np.clip(-0.16 * (down * sun[0] + right * sun[1]), -0.3, 0.25), np.float32)


def _shadows(height: Field, sun: NDArray[np.float64], slope: float) -> Field:
    """1 where something higher stands between a pixel and the sun (H, W)."""
    shadow = np.zeros(height.shape, np.bool_)
    reach = int(np.ceil(float(height.max()) / slope))
    for step in range(1, min(reach, 70) + 1):
        down, right = np.round(-sun * step).astype(int)
        there, here = _overlap(height.shape, down, right)
        shadow[here] |= height[there] > height[here] + slope * step + 0.4
    return shadow.astype(np.float32)


def _overlap(shape: tuple[int, ...], down: int, right: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where pixels and their neighbours at an offset both exist."""
    pairs = []
    for size, step in zip(shape, (down, right), strict=True):
        pairs.append((slice(max(-step, 0), size - max(step, 0)), slice(max(step, 0), size - max(-step, 0))))
    return (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])


def _near(value: float, usual: float, variety: float) -> float:
    """A value, drawn towards what is usual; with all of its variety exactly itself."""
    return value if variety == 1 else usual + variety * (value - usual)


def _develop(colour: Field, rng: np.random.Generator, variety: float) -> NDArray[np.uint8]:
    """Haze, lens and sensor; brightness, contrast and cast are this scene's own."""
    shape = colour.shape[:2]
    warmth, tint = variety * rng.normal(-0.01, 0.035), variety * rng.normal(0, 0.012)
    cast = np.array([1 + warmth, 1 + tint, 1 - warmth])
    haze, veil = variety * rng.uniform(0, 0.08), np.array([0.55, 0.6, 0.68])
    gamma, gain = _near(rng.uniform(0.9, 1.25), 1.0, variety), _near(rng.uniform(0.92, 1.22), 1.1, variety)
    blur, halo = _near(rng.uniform(0.45, 0.85), 0.6, variety), _near(rng.uniform(0.1, 1.0), 0.5, variety)
    noise = _near(rng.uniform(0.008, 0.02), 0.01, variety)
    grain = smooth_noise(shape, 1.5, rng)
    planes = []
    for band in range(3):
        plane = np.clip(colour[..., band] * np.float32(cast[band]), 0, 1.4) ** np.float32(gamma) * np.float32(gain)
        plane = ndimage.gaussian_filter(plane * np.float32(1 - haze) + np.float32(haze * veil[band]), blur)
        plane = plane + np.float32(halo) * (plane - ndimage.gaussian_filter(plane, 1.5))
        plane = plane + np.float32(noise) * (0.7 * rng.standard_normal(shape, np.float32) + 0.5 * grain)
        planes.append(np.clip(plane * 255, 0, 255).astype(np.uint8))
    return np.stack(planes)
