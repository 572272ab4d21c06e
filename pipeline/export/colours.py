"""Numbers as colours: classes in those of their names, objects in ones of their own, confidence from dark to light.

What is nodata, or no object, is transparent.
"""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.mosaic.codes import CERTAIN, NO_INSTANCE, Codes

Labels = NDArray[np.integer]
Palette = NDArray[np.uint8]
"""Red, green, blue and opacity (n, 4)."""

UNLABELLED = "#c4c9ce"
OUTLINE = (20, 20, 20, 255)
TINTS = 254
"""Colours of objects; two objects have the same one only if their ids differ by a multiple of it."""

CIVIDIS = ("#00204d", "#414d6b", "#7c7b78", "#bcaf6f", "#ffea46")
"""Confidence 0, 0.25 ... 1: evenly lighter, also for those who see no difference in hue."""


def _ramp() -> NDArray[np.uint8]:
    stops = np.array([list(bytes.fromhex(colour[1:])) for colour in CIVIDIS])
    at = np.linspace(0, CERTAIN, len(stops))
    bands = [np.interp(np.arange(CERTAIN + 1), at, stops[:, band]) for band in range(3)]
    return np.stack(bands, 1).round().astype(np.uint8)


RAMP = _ramp()
"""Red, green and blue (255, 3) of the confidences 0 to 254."""


def rgb(colour: str) -> tuple[int, int, int]:
    """From `#rrggbb`."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def distinct(colours: Sequence[str]) -> tuple[str, ...]:
    """The colours, those that were there before moved a little: each tells its class, also from a picture."""
    found: list[str] = []
    for colour in colours:
        number, taken = int(colour[1:], 16), {*found, UNLABELLED}
        while f"#{number:06x}" in taken:
            number += 1 if number & 0xFF < 0xF0 else -0x10
        found.append(f"#{number:06x}")
    return tuple(found)


def paint_classes(classes: Labels, colours: Sequence[str], codes: Codes) -> Image.Image:
    """Classes (h, w) in their colours; what is unlabelled is grey."""
    table = {**dict(enumerate(colours)), codes.unlabelled: UNLABELLED}
    present = np.unique(classes)
    rows = [(*rgb(table[id]), 255) if id in table else (0, 0, 0, 0) for id in present.tolist()]
    palette, index = np.array(rows, np.uint8), np.zeros(int(present[-1]) + 1, np.uint16)
    index[present] = np.arange(len(present))
    if len(rows) > 256:
        return Image.fromarray(palette[index[classes]])
    return indexed(index.astype(np.uint8)[classes], palette)


def paint_objects(ids: Labels) -> Image.Image:
    """Objects (h, w) in colours of their own, with dark outlines where they are large enough for any."""
    inside = ids != NO_INSTANCE
    index = np.where(inside, ids % TINTS + 1, 0).astype(np.uint8)
    edge = inside & _edges(ids)
    if edge.sum() < inside.sum() / 2:
        index[edge] = TINTS + 1
    tints = np.c_[tint(np.arange(1, TINTS + 1)), np.full(TINTS, 255)]
    return indexed(index, np.vstack([(0, 0, 0, 0), tints, OUTLINE]).astype(np.uint8))


def _edges(ids: Labels) -> NDArray[np.bool_]:
    """Where the pixel below or to the right has another id."""
    edges = np.zeros(ids.shape, bool)
    edges[:-1] |= ids[:-1] != ids[1:]
    edges[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    return edges


def paint_confidence(confidence: NDArray[np.uint8]) -> Image.Image:
    """Confidence (h, w) from dark blue to yellow."""
    return indexed(confidence, np.vstack([np.c_[RAMP, np.full(len(RAMP), 255)], (0, 0, 0, 0)]).astype(np.uint8))


def indexed(index: NDArray[np.uint8], palette: Palette) -> Image.Image:
    """A picture (h, w) of at most 256 colours, which PNG stores well."""
    image = Image.fromarray(index)
    image.putpalette(palette.tobytes(), "RGBA")
    return image


def tint(ids: Labels) -> NDArray[np.uint8]:
    """Ids as colours (..., 3): hues a golden angle apart, in three brightnesses; neighbours differ, 0 is black."""
    keys = ids[..., None].astype(np.float64)
    hue, saturation, value = keys * 0.61803398875 % 1, 0.65, np.array([1, 0.75, 0.55])[ids % 3][..., None]
    full = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    colours = np.where(keys == 0, 0, value * (1 - saturation + saturation * full)) * 255
    return colours.astype(np.uint8)


def data_uri(image: Image.Image, kind: str) -> str:
    """A picture as text that stands for it in HTML; `kind` is `png`, or the smaller `webp` for photographs."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"optimize": True} if kind == "png" else {"quality": 82}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
