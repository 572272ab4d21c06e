"""All of a raster's objects at once, in memory: for benches and for rasters that are small."""

from math import prod

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.links import link
from pipeline.stitch.objects import resolve
from pipeline.stitch.paint import paint
from pipeline.stitch.queries import QueryReader, Rules
from pipeline.stitch.views import Views
from pipeline.tiling import TilePlan


def stitched(
    plan: TilePlan, read: QueryReader, rules: Rules, stride: int = 1, accepted: float | None = None
) -> NDArray[np.int64]:
    """Stitch what tiles say into one map (H, W): objects from 1, stuff classes c as -1 - c, else 0.

    Args:
        plan: the tiles.
        read: gives what they say.
        rules: how queries become objects.
        stride: pixels a side of a cell.
        accepted: mean mask probability from which a pixel is the strongest object's; default: the rules' threshold.
    """
    views = Views(plan, stride, read, rules)
    tiles = plan.covering(plan.raster)
    cell = stride**2
    objects = resolve(link(views, tiles), rules, cell, prod(plan.tile_size) // cell)
    return paint(views, objects, plan.raster, rules.mask_threshold if accepted is None else accepted)[0].numbers
