"""How good a map could be if nothing were linked wrongly: what is left then is what the model itself got wrong."""

import numpy as np
from numpy.typing import NDArray

from pipeline.bench.stitching.scene import Truth
from pipeline.stitch.grouping import Grouping, over, places_of
from pipeline.stitch.links import Links, link
from pipeline.stitch.objects import objects_of
from pipeline.stitch.paint import paint
from pipeline.stitch.queries import QueryReader, Rules
from pipeline.stitch.views import View, Views
from pipeline.tiling import TilePlan


def linked_by_truth(truth: Truth, plan: TilePlan, read: QueryReader, rules: Rules) -> NDArray[np.int64]:
    """The map (H, W) of ids from 1 that the stitching makes if it is told which segments show the same true object.

    A segment is the object's of which it shows most cells; one that shows none stays alone. Votes and painting are
    those of every run.
    """
    views = Views(plan, 1, read, rules)
    tiles = plan.covering(plan.raster)
    links = link(views, tiles)
    shown = np.concatenate([_shown(view, truth) for tile in tiles if (view := views(tile)) is not None])
    objects = objects_of(links, _told(links, shown), rules, 1)
    return paint(views, objects, plan.raster, rules.mask_threshold)[0].numbers.clip(min=0)


def _shown(view: View, truth: Truth) -> NDArray[np.int64]:
    """The true object of each thing of a tile, 0 for none."""
    ids = truth.ids[view.window.slices]
    things = view.things[: ids.shape[0], : ids.shape[1]]
    count = len(truth) + 1
    cells = np.bincount((things[things >= 0] * np.int64(count) + ids[things >= 0]), minlength=len(view.fused) * count)
    table = cells.reshape(len(view.fused), count)
    objects = np.where(table[:, 1:].any(1), table[:, 1:].argmax(1) + 1, 0)
    return objects[np.isin(np.arange(len(view.fused)), view.things)]


def _told(links: Links, shown: NDArray[np.int64]) -> Grouping:
    """The segments of each true object together, and the lumps over two of them."""
    alone = -1 - np.arange(len(shown))
    names = np.where(shown > 0, shown, alone)
    lumps = np.zeros(len(shown), bool)
    sides = places_of(links.segments, links.covers)
    lumps[over(links)[links.covers.whole & (names[sides.first] != names[sides.second])]] = True
    _, first, cluster_of = np.unique(np.where(lumps, alone, names), return_index=True, return_inverse=True)
    return Grouping(first[cluster_of], lumps)
