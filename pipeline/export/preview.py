"""A picture of a raster beside what was made of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.mosaic import open_mosaic
from pipeline.preprocess import to_unit
from pipeline.raster import Reader, open_raster
from pipeline.spec import RunSpec

SIDE = 768
"""Pixels that the longer side of each panel may have."""

GAP = 8
"""White pixels between the panels."""


def draw_preview(spec: RunSpec, path: Path, truth: Path | None = None) -> None:
    """Write a PNG: the input, its true classes where they are known, and its classes, side by side and thinned to fit.

    Args:
        spec: A run that is complete; its input is still where it was.
        path: Where.
        truth: A raster of class ids on the input's grid.
    """
    step = -(-max(spec.plan.shape) // SIDE)
    mosaic = open_mosaic(spec.output)
    panels = [_image(spec, step), _paint(np.asarray(mosaic.classes[::step, ::step]), mosaic.colours)]
    if truth is not None:
        panels.insert(1, _paint(_thinned(truth, step), mosaic.colours))
    gap = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for panel in panels for part in (panel, gap)]
    Image.fromarray(np.concatenate(parts[:-1], axis=1)).save(path)


def _image(spec: RunSpec, step: int) -> NDArray[np.uint8]:
    """The input as the model sees it, in red, green and blue, (h, w, 3); read by strips."""
    rows, side = [], step * max(1, 256 // step)
    with Reader(spec.raster) as reader:
        for top in range(0, spec.plan.shape[0], side):
            strip = spec.plan.raster._replace(row=top, height=min(side, spec.plan.shape[0] - top))
            rows.append(to_unit(reader.read(strip).pixels, spec.scaling)[:, ::step, ::step])
    unit: NDArray[Any] = np.concatenate(rows, axis=1)
    bands = unit[:3] if len(unit) >= 3 else unit[:1].repeat(3, axis=0)
    image: NDArray[np.uint8] = (np.nan_to_num(bands).transpose(1, 2, 0) * 255).round().astype(np.uint8)
    return image


def _thinned(path: Path, step: int) -> NDArray[np.integer]:
    """Every so many pixels of a raster of class ids."""
    with Reader(open_raster(path, bands="1", needed=1)) as reader:
        return np.asarray(reader.read(reader.spec.grid.window).pixels[0, ::step, ::step])


def _paint(classes: NDArray[np.integer], colours: Sequence[str]) -> NDArray[np.uint8]:
    """Classes in their colours, (h, w, 3); what is unlabelled or nodata is white."""
    palette: NDArray[np.uint8] = np.full((np.iinfo(classes.dtype).max + 1, 3), 255, np.uint8)
    palette[: len(colours)] = [list(bytes.fromhex(colour[1:])) for colour in colours]
    painted: NDArray[np.uint8] = palette[classes]
    return painted
