"""A picture of a raster beside what was made of it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.mosaic import Mosaic, open_mosaic
from pipeline.preprocess import to_unit
from pipeline.raster import Reader
from pipeline.spec import RunSpec

SIDE = 768
"""Pixels that the longer side of each half may have."""

GAP = 8
"""White pixels between the halves."""


def draw_preview(spec: RunSpec, path: Path) -> None:
    """Write a PNG: the input on the left, its classes on the right, both thinned to fit.

    Args:
        spec: A run that is complete; its input is still where it was.
        path: Where.
    """
    step = -(-max(spec.plan.shape) // SIDE)
    mosaic = open_mosaic(spec.output)
    left, right = _image(spec, step), _paint(mosaic, step)
    gap = np.full((left.shape[0], GAP, 3), 255, np.uint8)
    Image.fromarray(np.concatenate([left, gap, right], axis=1)).save(path)


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


def _paint(mosaic: Mosaic, step: int) -> NDArray[np.uint8]:
    """Classes in their colours, (h, w, 3); what is unlabelled or nodata is white."""
    classes = np.asarray(mosaic.classes[::step, ::step])
    palette: NDArray[np.uint8] = np.full((np.iinfo(classes.dtype).max + 1, 3), 255, np.uint8)
    palette[: len(mosaic.colours)] = [list(bytes.fromhex(colour[1:])) for colour in mosaic.colours]
    painted: NDArray[np.uint8] = palette[classes]
    return painted
