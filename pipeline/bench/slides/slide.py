"""A slide: images of one size side by side, as large a square of them as there is, with what they truly show."""

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eomt_core.describe import describe_model
from pipeline.bench.objects import Label, load_objects_labeller, open_scene
from pipeline.bench.stitching.scene import Truth
from pipeline.errors import UsageError
from pipeline.tiling import Window, ceil_to
from pipeline.truth.pairs import Pair
from pipeline.truth.samples import TrainingScene


@dataclass(frozen=True, eq=False)
class Slide:
    """Images side by side.

    Attributes:
        pixels: (C, H, W), the numbers of the files, the bands that the model sees.
        truth: (H, W) int64, ids of objects from 1, 0 elsewhere; unlike in every image.
        alone: (H, W) int64, the same as the model finds them in each image in a forward of its own.
        image: rows and columns of an image.
    """

    pixels: NDArray[Any]
    truth: NDArray[np.int64]
    alone: NDArray[np.int64]
    image: tuple[int, int]

    @property
    def shifted(self) -> "Slide":
        """The slide from the middle of its first image on, so that no grid of tiles goes with that of the images."""
        return self.from_pixel(self.image[0] // 2, self.image[1] // 2)

    def from_pixel(self, row: int, col: int) -> "Slide":
        """What is left of it below a row and right of a column."""
        return Slide(self.pixels[:, row:, col:], self.truth[row:, col:], self.alone[row:, col:], self.image)


def compose(pairs: Sequence[Pair], model: str, device: str = "auto", size: tuple[int, int] | None = None) -> Slide:
    """Put images of one size together, the first ones where not all make a square.

    Args:
        pairs: the images with their truth, of any sizes.
        model: of objects.
        device: where it runs.
        size: rows and columns of the images that are taken; None: the commonest.

    Raises:
        ModelError: no such model or device.
        UsageError: fewer than four images of that size, or of several pixel types; or no model of objects.
    """
    label, lattice = load_objects_labeller(model, device), describe_model(model).architecture.min_multiple
    side, chosen = _square(pairs, model, size)
    slide: Slide | None = None
    for place, pair in zip(product(range(side), range(side)), chosen, strict=True):
        with closing(open_scene(pair, describe_model(model))) as scene:
            slide = slide or _blank(scene, side)
            _lay(slide, place, scene, lattice, label, pair)
    assert slide is not None
    return slide


def _square(pairs: Sequence[Pair], model: str, size: tuple[int, int] | None) -> tuple[int, list[Pair]]:
    """How many images a side has, and which they are."""
    groups: dict[tuple[int, int], list[Pair]] = {}
    for pair in pairs:
        with closing(open_scene(pair, describe_model(model))) as scene:
            groups.setdefault(scene.shape, []).append(pair)
    rows, cols = size or max(groups, key=lambda shape: len(groups[shape]))
    alike = groups.get((rows, cols), [])
    side = math.isqrt(len(alike))
    if side < 2:
        raise UsageError(
            f"IMAGES: {len(alike)} of {len(pairs)} have {rows} x {cols} pixels; a slide needs four or more of one size"
        )
    return side, alike[: side**2]


def _blank(scene: TrainingScene, side: int) -> Slide:
    rows, cols = scene.shape
    shape = rows * side, cols * side
    spec = scene.reader.spec
    pixels = np.zeros((len(spec.bands), *shape), spec.dtype)
    return Slide(pixels, np.zeros(shape, np.int64), np.zeros(shape, np.int64), scene.shape)


def _lay(slide: Slide, place: tuple[int, int], scene: TrainingScene, lattice: int, label: Label, pair: Pair) -> None:
    """Put one image in its place: row and column of images."""
    if scene.reader.spec.dtype != slide.pixels.dtype:
        raise UsageError(f"{pair.image}: is {scene.reader.spec.dtype}, others are {slide.pixels.dtype}; give one type")
    rows, cols = slide.image
    window = Window(place[0] * rows, place[1] * cols, rows, cols)
    unit, truth = scene.read(Window(0, 0, ceil_to(rows, lattice), ceil_to(cols, lattice)))
    slide.pixels[(slice(None), *window.slices)] = scene.reader.read(Window(0, 0, rows, cols)).pixels
    for map_, ids in ((slide.truth, truth), (slide.alone, label(unit))):
        own = ids[:rows, :cols].clip(min=0).astype(np.int64)
        map_[window.slices] = np.where(own, own + map_.max(), 0)


def truth_of(ids: NDArray[np.int64]) -> Truth:
    """Objects of any ids (H, W), 0 elsewhere, as a truth: numbered from 1, all of one kind, no ground."""
    found, numbers = np.unique(np.append(ids.ravel(), 0), return_inverse=True)
    places = numbers[:-1].reshape(ids.shape).astype(np.int32)
    return Truth(places, np.zeros(len(found), np.int64), np.zeros(ids.shape, np.uint8))
