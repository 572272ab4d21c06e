"""Crops for training: random windows of large rasters, each read alone, turned, zoomed and lit differently.

Batch `step` depends on the seed and the step only, never on what was read before: a stopped training goes on exactly.
"""

import itertools
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eomt_core.training.batch import IGNORE, Batch
from pipeline.preprocess import Scaling, to_unit
from pipeline.rasters.raster import Reader
from pipeline.tiling import Window
from pipeline.truth.labels import Labels

PLACES = 2048
"""Places that are remembered per class and scene, to put a crop around."""

STRIP = 1024
"""Pixels a side of the windows in which labels are looked through for them."""

MANY = 100
"""Scenes above which files are closed after every read: a process may have about a thousand open."""


Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class Augmentation:
    """How a crop may differ from the raster.

    Attributes:
        zoom: smallest and largest number of raster pixels that become one.
        light: standard deviations of the logarithms of brightness, contrast, gamma, and each band's gain.
        turn: whether crops are turned and mirrored.
    """

    zoom: tuple[float, float] = (0.65, 1.6)
    light: tuple[float, float, float, float] = (0.15, 0.2, 0.2, 0.06)
    turn: bool = True


NONE = Augmentation((1.0, 1.0), (0.0, 0.0, 0.0, 0.0), turn=False)


@dataclass(frozen=True)
class TrainingScene:
    """A raster with its truth.

    Attributes:
        reader: of the pixels.
        labels: of the truth on the same grid.
        scaling: the numbers that become 0 and 1.
        instances: whether labels are ids of objects, else classes.
        weight: how often crops are taken here, against the other scenes.
    """

    reader: Reader
    labels: Labels
    scaling: Scaling
    instances: bool = False
    weight: float = 1.0
    _busy: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.reader.spec.grid.shape

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Pixels (C, h, w) in [0, 1] and labels (h, w) of a window, which may overhang the scene by its edge."""
        inner = window.intersect(Window(0, 0, *self.shape))
        with self._busy:
            (pixels, valid), truth = self.reader.read(inner), self.labels.read(inner)
        labels = np.where(valid, truth, IGNORE)
        unit = np.where(valid, np.nan_to_num(to_unit(pixels, self.scaling)), 0).astype(np.float32)
        margins = [
            (inner.row - window.row, window.bottom - inner.bottom),
            (inner.col - window.col, window.right - inner.right),
        ]
        if not any(map(any, margins)):
            return unit, labels
        return np.pad(unit, [(0, 0), *margins], mode="edge"), np.pad(labels, margins, constant_values=IGNORE)

    def close(self) -> None:
        """Close the files, once no thread reads them; a later read opens them anew."""
        with self._busy:
            self.reader.close()
            self.labels.close()


class Sampler:
    """Batches of random crops.

    Args:
        scenes: where from.
        sizes: pixels a side of a crop; each batch takes one of them, and so many crops that its pixels are as many as
            `count` crops of the first size have.
        count: crops of the first size per batch.
        seed: of everything random.
        augmentation: how crops differ from the raster.
        balanced: the share of the crops that are put around a pixel of a class that is drawn evenly.
    """

    def __init__(
        self,
        scenes: Sequence[TrainingScene],
        sizes: Sequence[int],
        count: int,
        seed: int,
        augmentation: Augmentation = Augmentation(),
        balanced: float = 0.5,
    ) -> None:
        self.scenes, self.sizes, self.count, self.seed = scenes, sizes, count, seed
        self.augmentation, self.balanced = augmentation, balanced
        self.places = [self._places(scene) for scene in scenes] if balanced else []
        self.kinds = sorted({kind for places in self.places for kind in places})
        weights = np.array([scene.weight for scene in scenes])
        self.weights = weights / weights.sum()

    def batch(self, step: int) -> Batch:
        """The crops of a step."""
        rng = np.random.default_rng((self.seed, step))
        size = self.sizes[0] if step % 2 == 0 else self.sizes[int(rng.integers(len(self.sizes)))]
        crops = [self._crop(size, rng) for _ in range(max(1, round(self.count * (self.sizes[0] / size) ** 2)))]
        pixels, labels = zip(*crops, strict=True)
        return Batch(np.stack(pixels), np.stack(labels))

    def batches(self, start: int = 0, ahead: int = 2) -> Generator[Batch, None, None]:
        """The batches from a step on, without end, each read while the ones before are used."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="crops")
        try:
            waiting = deque(pool.submit(self.batch, start + i) for i in range(ahead))
            for step in itertools.count(start + ahead):
                waiting.append(pool.submit(self.batch, step))
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)  # the one that is being read is waited for: its files are closed next

    def _places(self, scene: TrainingScene) -> dict[int, NDArray[np.int32]]:
        found = find_places(scene, self.seed)
        self._close_if_many(scene)
        return found

    def _close_if_many(self, scene: TrainingScene) -> None:
        if len(self.scenes) > MANY:
            scene.close()

    def _crop(self, size: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        index = int(rng.choice(len(self.scenes), p=self.weights))
        side = max(1, round(size * _log_uniform(rng, *self.augmentation.zoom)))
        if rng.random() < self.balanced:
            index, centre = self._centre(rng, index)
        else:
            centre = None
        scene = self.scenes[index]
        pixels, labels = scene.read(_place(scene.shape, side, centre, rng))
        self._close_if_many(scene)
        pixels, labels = _resized(pixels, size), _nearest(labels, size)
        if self.augmentation.turn:
            view = int(rng.integers(8))
            pixels, labels = _turned(pixels, view), _turned(labels, view)
        return _lit(pixels, self.augmentation.light, rng), labels

    def _centre(self, rng: np.random.Generator, index: int) -> tuple[int, tuple[int, int] | None]:
        """A scene and a pixel of a class that is drawn evenly; scenes that have it are drawn by their weights."""
        if not self.kinds:
            return index, None
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        shares = self.weights * [kind in places for places in self.places]
        index = int(rng.choice(len(self.scenes), p=shares / shares.sum()))
        row, col = self.places[index][kind][int(rng.integers(len(self.places[index][kind])))]
        return index, (int(row), int(col))


def find_places(scene: TrainingScene, seed: int) -> dict[int, NDArray[np.int32]]:
    """Up to `PLACES` random pixels (n, 2) of each class, from one pass over the labels, window by window."""
    rng = np.random.default_rng((seed, 0x5EED))
    found: dict[int, list[tuple[int, NDArray[np.int64]]]] = {}
    rows, cols = scene.shape
    windows = [Window(row, col, STRIP, STRIP) for row in range(0, rows, STRIP) for col in range(0, cols, STRIP)]
    for window in windows:
        inner = window.intersect(Window(0, 0, rows, cols))
        labels = scene.labels.read(inner)
        labels = np.minimum(labels, 1) if scene.instances else labels
        for kind in np.unique(labels[labels != IGNORE]).tolist():
            places = np.argwhere(labels == kind)
            chosen = places[rng.choice(len(places), min(len(places), PLACES), replace=False)]
            found.setdefault(kind, []).append((len(places), chosen + np.array([inner.row, inner.col])))
    return {kind: _thinned(parts, rng) for kind, parts in found.items()}


def _thinned(parts: list[tuple[int, NDArray[np.int64]]], rng: np.random.Generator) -> NDArray[np.int32]:
    """Of pixels chosen per window, so many of each that every pixel was as likely."""
    total = sum(count for count, _ in parts)
    kept = [chosen[: max(1, round(PLACES * count / total))] for count, chosen in parts]
    return np.concatenate(kept).astype(np.int32)


def _place(shape: tuple[int, int], side: int, centre: tuple[int, int] | None, rng: np.random.Generator) -> Window:
    """A square window: anywhere, or with the centre somewhere in it; a scene that is smaller lies somewhere in it."""
    starts = []
    for axis, length in enumerate(shape):
        low, high = min(0, length - side), max(0, length - side)
        if centre is None:
            starts.append(int(rng.integers(low, high + 1)))
        else:
            start = centre[axis] - int(rng.integers(side))
            starts.append(min(max(start, low), high))
    return Window(starts[0], starts[1], side, side)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _resized(pixels: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Pixels (C, h, w) at (C, size, size), bilinear, smoothed where they shrink."""
    if pixels.shape[1:] == (size, size):
        return pixels
    return np.stack(
        [np.asarray(Image.fromarray(band).resize((size, size), Image.Resampling.BILINEAR)) for band in pixels]
    )


def _nearest(labels: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """Labels (h, w) at (size, size), each that of the pixel below its centre."""
    rows, cols = (((np.arange(size) + 0.5) * length / size).astype(int) for length in labels.shape)
    return labels[np.ix_(rows, cols)]


def _turned(array: NDArray[Value], view: int) -> NDArray[Value]:
    """One of the eight ways to lay a square (..., h, h)."""
    array = array.swapaxes(-1, -2) if view & 1 else array
    array = array[..., ::-1, :] if view & 2 else array
    array = array[..., ::-1] if view & 4 else array
    return np.ascontiguousarray(array)


def _lit(
    pixels: NDArray[np.float32], light: tuple[float, float, float, float], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Pixels under another light, still in [0, 1]; around their own mean, as dark images are to stay dark."""
    brightness, contrast, gamma = rng.normal(size=3) * light[:3]
    gains = np.exp(contrast + light[3] * rng.normal(size=len(pixels))).astype(np.float32)[:, None, None]
    mean = pixels.mean()
    lit = np.clip((pixels - mean) * gains + mean * np.float32(np.exp(brightness)), 0, 1)
    bent: NDArray[np.float32] = lit ** np.float32(np.exp(gamma))
    return bent
