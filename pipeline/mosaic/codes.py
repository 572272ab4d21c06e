"""What the numbers in the mosaic's arrays mean, apart from any file format."""

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

UNLABELLED, NODATA = 254, 255
"""In `classes` as bytes: valid but nothing was accepted, and invalid."""

WIDE_UNLABELLED, WIDE_NODATA = 65534, 65535
"""The same in `classes` of two bytes."""

NO_INSTANCE = 0
"""In `instances`: stuff, unlabelled and nodata; things begin at 1."""

CERTAIN, NO_CONFIDENCE = 254, 255
"""In `confidence`: a probability of 1, and nodata."""


class Codes(NamedTuple):
    """How class ids are written: the type of the array and the two ids that are no classes."""

    dtype: Literal["u1", "u2"]
    unlabelled: int
    nodata: int


def codes(num_classes: int) -> Codes:
    """The narrowest codes for classes 0..num_classes - 1.

    Raises:
        ValueError: No class, or more than two bytes can tell from the two codes.
    """
    if 1 <= num_classes <= UNLABELLED:
        return Codes("u1", UNLABELLED, NODATA)
    if UNLABELLED < num_classes <= WIDE_UNLABELLED:
        return Codes("u2", WIDE_UNLABELLED, WIDE_NODATA)
    raise ValueError(f"number of classes must be 1 to {WIDE_UNLABELLED}, got {num_classes}")


class Layer(NamedTuple):
    """One array of pixels, without its place."""

    name: str
    dtype: str
    fill: int
    attributes: dict[str, Any]


def layers(classes: Sequence[str], colours: Sequence[str], instances: bool) -> list[Layer]:
    """The mosaic's arrays, with the attributes that say what their numbers mean.

    Args:
        classes: Names, by class id.
        colours: `#rrggbb`, by class id.
        instances: Whether there is an array of instance ids.

    Raises:
        ValueError: Not one colour for each class.
    """
    dtype, _, nodata = codes(len(classes))
    if len(colours) != len(classes):
        raise ValueError(f"{len(classes)} classes need as many colours, got {len(colours)}")
    flags = {
        "flag_values": list(range(len(classes))),
        # CF allows no blanks and few signs within a meaning; the true names stand beside.
        "flag_meanings": " ".join(re.sub(r"[^A-Za-z0-9_.+@-]", "_", name) or "_" for name in classes),
        "flag_colors": " ".join(colours),
        "class_names": list(classes),
    }
    found = [
        Layer("classes", dtype, nodata, {"long_name": "semantic class id"} | flags),
        Layer("confidence", "u1", NO_CONFIDENCE, {"long_name": "254 times the probability of the class"}),
        Layer("instances", "u4", NO_INSTANCE, {"long_name": "instance id"}),
    ]
    return found if instances else found[:2]
