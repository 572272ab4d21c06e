"""Class names of the public datasets that published weights were trained on; weight files seldom carry them."""

import colorsys
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

# What published models have, by class count: no two tables have the same.
_TABLES = {133: "coco_panoptic", 80: "coco_instance", 150: "ade20k", 19: "cityscapes"}
_GOLDEN_RATIO = 0.618033988749895

# Light enough to lie over an image, and different in lightness for those who see no difference in hue.
_LAND_COVER = {
    "building": "#c8443c",
    "buildings": "#c8443c",
    "land": "#e8d5a0",
    "bare": "#e8d5a0",
    "sand": "#f3e3b3",
    "road": "#5d5c68",
    "roads": "#5d5c68",
    "vegetation": "#3f9b4f",
    "forest": "#1e6b3a",
    "trees": "#1e6b3a",
    "grass": "#8ac45c",
    "cropland": "#d8b43c",
    "water": "#2f6fd0",
}

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Labels:
    """The classes of one dataset, in the order of the class ids.

    Attributes:
        name: the dataset.
        tasks: what models of this dataset are trained for, the usual one first.
        classes: K names.
        things: ids of the countable classes; the others are stuff.
    """

    name: str
    tasks: tuple[str, ...]
    classes: tuple[str, ...]
    things: tuple[int, ...]


def labels_for(num_classes: int, task: str | None = None) -> Labels | None:
    """Return the dataset with K classes, or None where none has so many or its models do not do the task."""
    name = _TABLES.get(num_classes)
    labels = _read(name) if name else None
    return labels if labels and task in (None, *labels.tasks) else None


def palette(num_classes: int) -> tuple[Colour, ...]:
    """Return a colour (red, green, blue, 0..255) per class, the same ones whatever the number of classes.

    Hues advance by the golden ratio, so neighbouring ids are far apart on the colour circle; lightness and saturation
    alternate, so hues that come close again still differ.
    """
    return tuple(_colour(index) for index in range(num_classes))


def class_colours(names: Sequence[str]) -> tuple[str, ...]:
    """Return `#rrggbb` per class: what land cover is usually drawn in where the name is known, else from `palette`."""
    found = zip(names, palette(len(names)), strict=True)
    return tuple(_LAND_COVER.get(name.lower()) or "#{:02x}{:02x}{:02x}".format(*colour) for name, colour in found)


def _colour(index: int) -> Colour:
    hue = (index * _GOLDEN_RATIO) % 1.0
    lightness = (0.52, 0.38, 0.68)[index % 3]
    saturation = (0.85, 0.55)[index // 3 % 2]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


@cache
def _read(name: str) -> Labels:
    table = json.loads(files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8"))
    return Labels(table["name"], tuple(table["tasks"]), tuple(table["classes"]), tuple(table["things"]))
