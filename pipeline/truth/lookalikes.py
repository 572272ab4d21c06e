"""Images that show the same ground, or look as if they did: they must not be both trained on and validated with.

Training images are seldom independent: pieces cut from one field, fields of one slide, one flight line. A model that
is validated with the neighbour of what it was trained on looks better than it is. Three signs tie two images of one
size together, and what is tied goes to one side of the split:

1. One goes on where the other ends: they are neighbouring pieces of one larger image.
2. Their thumbnails are nearly the same: a duplicate, or the same place twice.
3. Their mean and spread are nearly the same: the same slide under the same light, probably. This sign alone is weak
   and it chains, so it may not tie more than a small share of the images into one cluster.

The thresholds were set on 466 fluorescence images of four sizes; what each does there is said beside it.
"""

from collections.abc import Hashable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import rankdata

from pipeline.disjoint import DisjointSets
from pipeline.rasters.raster import Reader, open_raster
from pipeline.tiling import Window

CONTINUES = 0.6
"""Least correlation of two borders that continue each other, of their ranks and of their differences both, where each
is the other's best.

At 0.60 the pieces of 256 x 256 fall into groups of at most four, as they were cut (2 x 2), and the 466 images into 238
groups; at 0.55 the first false ones appear, groups of six to twelve; at 0.75 the first true ones fall apart."""

ENOUGH = 256
"""Pixels of a border for which `CONTINUES` holds. Shorter ones must agree more: of 64 pixels every sixth nucleus image
finds a chance continuation above 0.6, and every twentieth above 0.8, which is asked of them."""

STEP = 3
"""Pixels between which a border's differences are taken: past the blur, so that a slope of light is no likeness."""

MOST_BITS = 10
"""Bits of 64 in which the thumbnails of duplicates may differ. Unrelated ones differ in 32, give or take 5: of
50 000 pairs of one size seven come this close, and the next condition leaves one."""

SAME_LIGHT = 0.1
"""Relative difference in mean and in spread that duplicates may have."""

SAME_LOOK = 0.02
"""Relative difference in mean and in spread below which two images count as taken alike. With no limit on what it may
tie, 0.02 makes a cluster of 75 images of the 466, 0.04 one of 179 and 0.1 one of 285."""

LARGEST = 0.05
"""Share of the images up to which a cluster may grow by mean and spread alone."""

HASH = (8, 9)
"""Rows and columns of a thumbnail; its 64 bits say which of two neighbouring cells is brighter."""

WHOLE = 2**22
"""Pixels up to which an image is read whole; of larger ones a sample is read."""

PIECE = 128
"""Side of the windows, one per cell of the thumbnail, that are read of a large image."""

LONGEST = 1024
"""Pixels of a border that are compared."""

TINY = 1e-6
"""Keeps the logarithm of a black image finite."""

Floats = NDArray[np.float64]


class Look(NamedTuple):
    """What is kept of an image.

    Attributes:
        size: Rows and columns.
        light: Logarithms of mean and spread, (2,).
        bits: The thumbnail's hash, (64,) bool.
        borders: Top, bottom, left and right row of pixels.
    """

    size: tuple[int, int]
    light: Floats
    bits: NDArray[np.bool_]
    borders: tuple[Floats, Floats, Floats, Floats]


def cluster_images(images: Sequence[Path]) -> list[int]:
    """The cluster of each image, counted from 0 in the order of first appearance.

    Args:
        images: Rasters of any size; their first bands are compared.

    Raises:
        InputError: An image cannot be read.
    """
    looks = [_look(path) for path in images]
    parts = DisjointSets(len(looks))
    by_size: dict[Hashable, list[int]] = {}
    for index, look in enumerate(looks):
        by_size.setdefault(look.size, []).append(index)
    groups = [np.array(members) for members in by_size.values() if len(members) > 1]
    for members in groups:
        for one, other in members[_same_ground([looks[index] for index in members])]:
            parts.join(one, other)
    most = max(2, int(LARGEST * len(looks)))
    for members in groups:
        for one, other in members[_same_look([looks[index] for index in members])]:
            parts.join(one, other, most)
    return parts.numbers()


def choose_validation(
    clusters: Sequence[int], share: float, seed: int, sizes: Sequence[Hashable] | None = None
) -> set[int]:
    """Which images to validate with: whole clusters, so that nothing validated with has a look-alike in training.

    Each size gives about its share. A size of several clusters gives at least one, unless that is more than half of
    its images; a size of one cluster gives none, so that it can be trained on. A single cluster of everything cannot
    be kept whole: its last images are taken, which are neighbours where names follow the ground.

    Args:
        clusters: What `cluster_images` gave.
        share: Of the images, 0..1.
        seed: The same seed draws the same images.
        sizes: Anything that tells kinds of images apart, per image; see `image_sizes`.
    """
    kinds = list(sizes) if sizes is not None else [None] * len(clusters)
    rng = np.random.default_rng(seed)
    chosen: set[int] = set()
    for kind in sorted(set(kinds), key=repr):
        members = [index for index, other in enumerate(kinds) if other == kind]
        together: dict[int, list[int]] = {}
        for index in members:
            together.setdefault(clusters[index], []).append(index)
        chosen |= _draw(list(together.values()), share * len(members), rng)
    if not chosen or len(chosen) == len(clusters):
        count = round(share * len(clusters))
        return set(range(len(clusters) - count, len(clusters)))
    return chosen


def image_sizes(images: Sequence[Path]) -> list[tuple[int, int]]:
    """Rows and columns of each image.

    Raises:
        InputError: An image cannot be opened.
    """
    return [open_raster(path, needed=1).grid.shape for path in images]


def _draw(groups: list[list[int]], wanted: float, rng: np.random.Generator) -> set[int]:
    """Whole groups in random order, each taken if that brings the count closer to what is wanted."""
    if len(groups) < 2:
        return set()
    chosen: set[int] = set()
    for place in rng.permutation(len(groups)):
        if len(chosen) + len(groups[place]) / 2 <= wanted:
            chosen |= set(groups[place])
    smallest = min(groups, key=len)
    few = wanted > 0 and 2 * len(smallest) <= sum(map(len, groups))
    return chosen or (set(smallest) if few else set())


def _same_ground(looks: Sequence[Look]) -> NDArray[np.intp]:
    """Pairs of images, (N, 2), that continue or repeat each other."""
    bits = np.stack([look.bits for look in looks]).astype(np.float32)
    light = np.stack([look.light for look in looks])
    sides = [np.stack([look.borders[side] for look in looks]) for side in range(4)]
    pairs = [_continuing(sides[1], sides[0]), _continuing(sides[3], sides[2])]
    for rows in _strips(len(looks)):
        differ = bits[rows] @ (1 - bits.T) + (1 - bits[rows]) @ bits.T
        near = np.abs(light[rows, None] - light[None]).max(axis=2) <= SAME_LIGHT
        pairs.append(np.argwhere(near & (differ <= MOST_BITS)) + np.array([rows.start, 0]))
    return np.concatenate(pairs)


def _continuing(ends: Floats, starts: Floats) -> NDArray[np.intp]:
    """Pairs (end, start), (N, 2), of borders (M, L) that lie side by side: each is the other's best continuation."""
    count, length = ends.shape
    if length <= 2 * STEP:
        return np.empty((0, 2), np.intp)
    signs = [(_ranks(ends), _ranks(starts)), (_differences(ends), _differences(starts))]
    likeness, best_start = np.zeros(count), np.zeros(count, np.intp)
    best_end, record = np.zeros(count, np.intp), np.zeros(count)
    for rows in _strips(count):
        alike = np.minimum(*(one[rows] @ other.T for one, other in signs))
        alike[np.arange(len(alike)), np.arange(rows.start, rows.stop)] = 0  # a pattern may well continue itself
        best_start[rows], likeness[rows] = alike.argmax(axis=1), alike.max(axis=1)
        better = alike.max(axis=0) > record
        best_end[better] = alike.argmax(axis=0)[better] + rows.start
        record = np.maximum(record, alike.max(axis=0))
    least = 1 - (1 - CONTINUES) * min(1, length / ENOUGH) ** 0.5
    found = np.flatnonzero((likeness > least) & (best_end[best_start] == np.arange(count)))
    return np.stack([found, best_start[found]], axis=1)


def _ranks(borders: Floats) -> Floats:
    """Ranks, whatever the pixels' type and scale: one bright spot does not make two borders alike."""
    return _normal(rankdata(borders, axis=1))


def _differences(borders: Floats) -> Floats:
    return _normal(borders[:, STEP:] - borders[:, :-STEP])


def _normal(rows: Floats) -> Floats:
    """Rows of mean 0 and length 1, whose products are correlations; flat ones become 0, alike to nothing."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    normal: Floats = np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-9)
    return normal


def _same_look(looks: Sequence[Look]) -> NDArray[np.intp]:
    """Pairs of images, (N, 2), that are taken alike, the closest first."""
    light = np.stack([look.light for look in looks])
    pairs = cKDTree(light).query_pairs(SAME_LOOK, p=np.inf, output_type="ndarray")
    apart = np.abs(light[pairs[:, 0]] - light[pairs[:, 1]]).max(axis=1)
    return np.asarray(pairs[np.lexsort((pairs[:, 1], pairs[:, 0], apart))])


def _strips(count: int, height: int = 512) -> Iterator[slice]:
    """Rows of a matrix of all pairs, so that it need not exist as a whole."""
    return (slice(start, min(start + height, count)) for start in range(0, count, height))


def _look(path: Path) -> Look:
    spec = open_raster(path, needed=1)
    rows, cols = spec.grid.shape
    long = Window(0, 0, min(rows, LONGEST), min(cols, LONGEST))
    with Reader(spec) as reader:
        pixels = _sample(reader)
        borders = (
            _intensity(reader, Window(0, 0, 1, long.width)).ravel(),
            _intensity(reader, Window(rows - 1, 0, 1, long.width)).ravel(),
            _intensity(reader, Window(0, 0, long.height, 1)).ravel(),
            _intensity(reader, Window(0, cols - 1, long.height, 1)).ravel(),
        )
    light: Floats = np.log(np.array([abs(pixels.mean()), pixels.std()]) + TINY)
    cells = _thumbnail(pixels)
    return Look((rows, cols), light, (cells[:, 1:] > cells[:, :-1]).ravel(), borders)


def _thumbnail(pixels: Floats) -> Floats:
    """Means of the cells of an image, 8 x 9."""
    rows, cols = (
        np.linspace(0, size, count + 1).astype(int)[:-1] for size, count in zip(pixels.shape, HASH, strict=True)
    )
    sums: Floats = np.add.reduceat(np.add.reduceat(pixels, rows, axis=0), cols, axis=1)
    heights, widths = (np.diff([*edges, size]) for edges, size in zip((rows, cols), pixels.shape, strict=True))
    means: Floats = sums / np.outer(np.maximum(heights, 1), np.maximum(widths, 1))
    return means


def _sample(reader: Reader) -> Floats:
    """All pixels of an image, or of a large one the middles of its thumbnail's cells, put together."""
    rows, cols = reader.spec.grid.shape
    if rows * cols <= WHOLE:
        return _intensity(reader, reader.spec.grid.window)
    height, width = (min(PIECE, max(1, size // count)) for size, count in zip((rows, cols), HASH, strict=True))
    pieces = np.empty((HASH[0] * height, HASH[1] * width))
    for row, col in product(range(HASH[0]), range(HASH[1])):
        window = Window(
            (2 * row + 1) * rows // (2 * HASH[0]) - height // 2,
            (2 * col + 1) * cols // (2 * HASH[1]) - width // 2,
            height,
            width,
        )
        pieces[row * height : (row + 1) * height, col * width : (col + 1) * width] = _intensity(reader, window)
    return pieces


def _intensity(reader: Reader, window: Window) -> Floats:
    """The first band, (h, w), 0 where it is invalid."""
    pixels, valid = reader.read(window)
    return np.where(valid, pixels[0].astype(np.float64), 0.0)
