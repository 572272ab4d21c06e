"""A landscape seen from above, and its truth."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.canvas import VEGETATION, Canvas, blank_canvas
from pipeline.scenes.light import take_picture
from pipeline.scenes.nature import lay_canal, lay_desert, lay_farm, lay_park, lay_sand, lay_sea
from pipeline.scenes.quarters import lay_quarter
from pipeline.scenes.roads import lay_arterials, lay_highway, park_cars
from pipeline.scenes.trees import plant_avenues, plant_trees
from pipeline.scenes.zones import MIXED, Uses, Zones, lay_out


class Scene(NamedTuple):
    """A landscape.

    Attributes:
        pixels: Red, green, blue, (3, H, W) uint8.
        classes: Index into `CLASSES`, (H, W) uint8.
    """

    pixels: NDArray[np.uint8]
    classes: NDArray[np.uint8]


NATURE = {"desert": lay_desert, "farm": lay_farm, "park": lay_park, "sea": lay_sea}


def draw_scene(side: int = 1536, seed: int = 0, used: Uses = MIXED) -> Scene:
    """Draw a landscape of pixels of 1 m, the same for the same seed.

    Args:
        side: Rows and columns, at least 2; from about 600 on, every class has its share.
        seed: Decides everything else: plan, building, light and camera.
        used: What the land is used for.
    """
    canvas = blank_canvas(side, np.random.default_rng(seed), used.clear)
    zones = lay_out(canvas, used)
    lay_sand(canvas)
    for use, part in zones.parts(canvas):
        if use in NATURE:
            NATURE[use](part)
        else:
            lay_quarter(part, use)
    if canvas.rng.random() < 0.4:
        lay_canal(canvas)
    lay_arterials(canvas, zones)
    plant_avenues(canvas, _verges(canvas, zones))
    if canvas.rng.random() < 0.75:
        lay_highway(canvas)
    park_cars(canvas)
    plant_trees(canvas)
    return Scene(take_picture(canvas), canvas.classes)


def _verges(canvas: Canvas, zones: Zones) -> NDArray[np.bool_]:
    """A line in the green beside roads between zones (H, W)."""
    beside = np.abs(zones.border - zones.road / 2 - 4) < 0.7
    return np.asarray(beside & (zones.road > 0) & (canvas.classes == VEGETATION))
