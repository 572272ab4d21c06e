"""What queries look at: a class wherever it is, or a place whatever is there."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eomt_core.describe import ModelInfo, describe_model
from eomt_core.family import PRESETS
from pipeline.finetune.validation import tiles_of
from pipeline.preprocess import choose_scaling
from pipeline.rasters.raster import Reader, open_raster
from pipeline.truth.labels import open_labels
from pipeline.truth.pairs import Pair
from pipeline.truth.samples import TrainingScene

TILES = 64
"""Tiles that are looked at, spread over the scenes."""

WIDER = 2
"""Side of these, against the tiles of the training: there is more to look at."""


class Look(NamedTuple):
    """A tile and what the queries attend to.

    Attributes:
        pixels: (C, H, W) in [0, 1].
        truth: class ids (H, W), below 0 where not known.
        attention: (Q, h, w), of each query 1 in sum.
    """

    pixels: NDArray[np.float32]
    truth: NDArray[np.int32]
    attention: NDArray[np.float32]


@dataclass(frozen=True)
class Focus:
    """What the queries of a model look at; query k is that of class k.

    Attributes:
        configuration: what stands behind `new:`.
        seed: of the training.
        on_class: attention on pixels of the query's own class, against their share of the tile: 1 is none, mean of the
            classes.
        on_place: share of the attention's variance over a tile that is there in every tile alike: 1 is a place alone.
    """

    configuration: str
    seed: int
    on_class: float
    on_place: float


def attends(name: str) -> bool:
    """Whether the queries of a configuration attend to anything."""
    return PRESETS[name].query_mode != "conv"


def measure_focus(name: str, seed: int, model: Path, pairs: Sequence[Pair], tile: int) -> Focus:
    """Look at tiles of some scenes."""
    looks = list(looks_of(model, pairs, tile, TILES))
    return Focus(name, seed, round(_on_class(looks), 4), round(_on_place(looks), 4))


def looks_of(model: Path, pairs: Sequence[Pair], tile: int, count: int) -> Iterator[Look]:
    """Run a model on about so many tiles."""
    from eomt_core.attention import load_attention

    attention, info, side = load_attention(model), describe_model(model), WIDER * tile
    with ExitStack() as stack:
        scenes = [stack.enter_context(closing(_open(pair, info))) for pair in pairs]
        tiles = tiles_of(scenes, (side, side), info.architecture.min_multiple)
        for scene, window in tiles[:: -(-len(tiles) // count)]:
            pixels, truth = scene.read(window)
            seen = attention(pixels)
            yield Look(pixels, truth, seen / seen.sum((1, 2), keepdims=True))


def _open(pair: Pair, info: ModelInfo) -> TrainingScene:
    raster = open_raster(pair.image, default_bands=info.card.bands, needed=info.architecture.in_channels)
    scaling = choose_scaling("auto", raster, info.card.value_range)
    return TrainingScene(Reader(raster), open_labels(pair.labels, raster, "semantic", info.card.classes), scaling)


def _on_class(looks: Sequence[Look]) -> float:
    """Mean over classes and the tiles that have them."""
    found: dict[int, list[float]] = {}
    for look in looks:
        for kind in np.unique(look.truth[look.truth >= 0]).tolist():
            cells = look.attention.shape[1:]
            share = _by_cell(look.truth == kind, cells)
            found.setdefault(kind, []).append(float((look.attention[kind] * share).sum() / share.mean()))
    return float(np.mean([np.mean(values) for values in found.values()]))


def _on_place(looks: Sequence[Look]) -> float:
    maps = np.stack([look.attention for look in looks])
    return float(maps.mean(0).var((1, 2)).mean() / maps.var((2, 3)).mean())


def _by_cell(mask: NDArray[np.bool_], cells: tuple[int, ...]) -> NDArray[np.float64]:
    """The share of each cell (h, w) that a mask (H, W) covers."""
    rows, cols = cells
    share: NDArray[np.float64] = mask.reshape(rows, mask.shape[0] // rows, cols, -1).mean((1, 3))
    return share
