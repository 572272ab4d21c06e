"""One PNG that shows a mosaic: image, classes, objects and confidence, with a legend and a scale bar."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.export.colours import RAMP, UNLABELLED, rgb
from pipeline.export.panes import Pane, Subject, numbered
from pipeline.mosaic.codes import codes

SIDE = 720
"""Pixels that the longer side of each panel has, or nearly."""

MARGIN, GAP, LINE = 28, 20, 24
"""Pixels around everything, between panels, and from one line of text to the next."""

INK, MUTED, PAPER = "#1c2126", "#5d6670", "#ffffff"

WIDTH = 240
"""Pixels that an entry of the legend has; panels of small or narrow rasters have as many."""

MOST_ENTRIES = 24
"""Classes in the legend, those with the most pixels."""


class Entry(NamedTuple):
    """A line of the legend."""

    text: str
    colour: str


def draw_preview(subject: Subject, path: Path, truth: Path | None = None) -> None:
    """Write the PNG; it appears when it is whole.

    Args:
        subject: The mosaic and what lies behind it.
        path: Where.
        truth: A raster of class ids on the mosaic's grid, shown beside.
    """
    panes, classes, _ = subject.panes(SIDE)
    if truth is not None:
        panes.insert(len(panes) > 2, subject.truth(truth, SIDE))
    sheet = _sheet(subject, panes, classes)
    partial = path.with_name(f".{path.name}.partial")
    sheet.save(partial, "png", optimize=True)
    partial.replace(path)


def _sheet(subject: Subject, panes: Sequence[Pane], classes: NDArray[Any]) -> Image.Image:
    """Panels in two columns (one where they are wide) below a headline; the key takes the place that is left."""
    rows, cols = classes.shape
    factor = max(1, SIDE // max(rows, cols))
    size = cols * factor, rows * factor
    across = 1 if cols > 2 * rows else 2
    cell, top = (max(size[0], WIDTH), size[1] + LINE), MARGIN + 2 * LINE
    places = [
        (MARGIN + index % across * (cell[0] + GAP), top + index // across * (cell[1] + GAP))
        for index in range(len(panes) + 2)
    ]
    entries = _entries(subject, classes)
    beside = len(panes) % across > 0
    place, columns = places[len(panes)], max(1, (cell[0] if beside else across * cell[0]) // WIDTH)
    key = -(-len(entries) // columns) * LINE + 3 * LINE
    bottom = max(places[len(panes) - 1][1] + cell[1], place[1] + LINE + key)
    sheet = Image.new("RGB", (2 * MARGIN + across * (cell[0] + GAP) - GAP, bottom + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    _headline(draw, subject)
    for pane, (left, above) in zip(panes, places, strict=False):
        draw.text((left, above), pane.title, INK, _font(16))
        _panel(sheet, (left, above + LINE), size, pane, panes[0] if panes[0].name == "image" else None)
        if pane.name == "classes":
            _numbers(draw, (left, above + LINE), factor, numbered(classes, len(subject.mosaic.class_names)))
    _legend(draw, (place[0], place[1] + beside * LINE), entries, columns)
    below = place[1] + beside * LINE + key - 2 * LINE
    _scale_bar(draw, (place[0], below), subject, size[0])
    _ramp(draw, (place[0] + WIDTH, below))
    return sheet


def _headline(draw: ImageDraw.ImageDraw, subject: Subject) -> None:
    mosaic = subject.mosaic
    rows, cols = mosaic.shape
    draw.text((MARGIN, MARGIN - 8), mosaic.path.name, INK, _font(22))
    model = subject.run.model.name if subject.run else None
    facts = (f"{cols:,} x {rows:,} pixels".replace(",", " "), mosaic.place().crs_name, model)
    draw.text((MARGIN, MARGIN + 20), "  ·  ".join(fact for fact in facts if fact), MUTED, _font(14))


def _panel(sheet: Image.Image, place: tuple[int, int], size: tuple[int, int], pane: Pane, behind: Pane | None) -> None:
    """Put a picture on the sheet; objects lie over the image, which is paled for them."""
    picture = pane.picture.convert("RGBA").resize(size, Image.Resampling.NEAREST)
    ground = Image.new("RGBA", size, "#eceff1")
    if pane.name == "instances" and behind is not None:
        grey = behind.picture.convert("L").convert("RGBA").resize(size, Image.Resampling.NEAREST)
        ground = Image.blend(ground, grey, 0.4)
    ground.alpha_composite(picture)
    sheet.paste(ground.convert("RGB"), place)
    ImageDraw.Draw(sheet).rectangle((*place, place[0] + size[0] - 1, place[1] + size[1] - 1), outline="#c3c9cf")


def _numbers(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], factor: int, places: dict[int, tuple[int, int]]
) -> None:
    """The number of each class where it is widest, so that it is known without its colour."""
    for id, (row, col) in places.items():
        at = place[0] + (col + 0.5) * factor, place[1] + (row + 0.5) * factor
        draw.text(at, str(id), "#000000", _font(17), anchor="mm", stroke_width=3, stroke_fill="#ffffff")


def _entries(subject: Subject, classes: NDArray[Any]) -> list[Entry]:
    """Classes that occur, in the order of their share, with what has none."""
    mosaic = subject.mosaic
    _, unlabelled, nodata = codes(len(mosaic.class_names))
    ids, counts = np.unique(classes, return_counts=True)
    shares = dict(zip(ids.tolist(), (counts / classes.size).tolist(), strict=True))
    present = sorted((id for id in shares if id < len(mosaic.class_names)), key=lambda id: -shares[id])
    found = [
        Entry(f"{id}  {_short(mosaic.class_names[id])}  {shares[id]:.1%}", subject.colours[id])
        for id in present[:MOST_ENTRIES]
    ]
    if len(present) > MOST_ENTRIES:
        found.append(Entry(f"and {len(present) - MOST_ENTRIES} more", PAPER))
    others = {"unlabelled": (unlabelled, UNLABELLED), "no data": (nodata, "#eceff1")}
    return found + [Entry(f"{name}  {shares[id]:.1%}", colour) for name, (id, colour) in others.items() if id in shares]


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:16]}..."


def _legend(draw: ImageDraw.ImageDraw, place: tuple[int, int], entries: Sequence[Entry], columns: int) -> None:
    for index, entry in enumerate(entries):
        left, top = place[0] + index % columns * WIDTH, place[1] + index // columns * LINE
        draw.rectangle((left, top + 2, left + 22, top + 16), fill=rgb(entry.colour), outline=MUTED)
        draw.text((left + 32, top), entry.text, INK, _font(15))


def _scale_bar(draw: ImageDraw.ImageDraw, place: tuple[int, int], subject: Subject, width: int) -> None:
    """A bar of a round length, at most a quarter of a panel wide."""
    metres = subject.mosaic.place().pixel_metres
    total = subject.mosaic.shape[1] * (metres or 1)
    length = round_length(total / 4)
    left, top = place
    right = left + length / total * width
    draw.line((left, top + 6, right, top + 6), INK, 3)
    for end in (left, right):
        draw.line((end, top, end, top + 12), INK, 2)
    text = f"{length:g} pixels" if metres is None else f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    draw.text((left, top + 16), text, INK, _font(14))


def round_length(most: float) -> float:
    """The largest of 1, 2, 5, 10, 20 ... (or 0.5, 0.2 ...) that is not above `most`."""
    power = 10.0 ** math.floor(math.log10(most))
    return max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9))


def _ramp(draw: ImageDraw.ImageDraw, place: tuple[int, int]) -> None:
    """What the shades of confidence mean."""
    left, top = place
    for x in range(200):
        draw.line((left + x, top, left + x, top + 12), tuple(RAMP[x * len(RAMP) // 200].tolist()))
    draw.text((left, top + 16), "0", INK, _font(14))
    draw.text((left + 100, top + 16), "confidence", INK, _font(14), anchor="ma")
    draw.text((left + 200, top + 16), "1", INK, _font(14), anchor="ra")


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
