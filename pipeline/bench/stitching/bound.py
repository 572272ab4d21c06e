"""How good a map could be if nothing were linked wrongly: what is left then is what the model itself got wrong."""

import numpy as np
from numpy.typing import NDArray

from pipeline.bench.stitching.scene import Truth
from pipeline.stitch.links import LIKE, NO_KEYS, Conflicts, Links, Pairs, joined, link
from pipeline.stitch.objects import resolve
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
    shown = [_shown(view, truth) for tile in tiles if (view := views(tile)) is not None]
    keys, objects = (np.concatenate(column) for column in zip(*shown, strict=True))
    told = _told(links, keys, objects)
    return paint(views, resolve(told, rules, 1), plan.raster, rules.mask_threshold)[0].numbers.clip(min=0)


def _shown(view: View, truth: Truth) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The keys (n,) of a tile's segments, and the true object of each, 0 for none."""
    ids = truth.ids[view.window.slices]
    things = view.things[: ids.shape[0], : ids.shape[1]]
    count = len(truth) + 1
    cells = np.bincount((things[things >= 0] * np.int64(count) + ids[things >= 0]), minlength=len(view.fused) * count)
    table = cells.reshape(len(view.fused), count)[:, 1:]
    return view.keys(np.arange(len(view.fused))), np.where(table.any(1), table.argmax(1) + 1, 0)


def _told(links: Links, keys: NDArray[np.uint64], objects: NDArray[np.int64]) -> Links:
    """Links that join the segments of each true object, and no others."""
    first, second = (objects[np.searchsorted(keys, ends)] for ends in links.pairs[:2])
    likeness = np.where((first == second) & (first > 0), np.int32(LIKE), np.int32(0))
    chain = _chain(links.segments.keys, objects[np.searchsorted(keys, links.segments.keys)])
    pairs = joined(Pairs, [links.pairs._replace(likeness=likeness), chain])
    return Links(links.segments, pairs, Conflicts(NO_KEYS, NO_KEYS), links.lumps)


def _chain(keys: NDArray[np.uint64], objects: NDArray[np.int64]) -> Pairs:
    """Each segment with the next one of its object, wherever that is."""
    order = np.argsort(objects, kind="stable")
    ends = np.stack([order[:-1], order[1:]])
    same = (objects[ends[0]] == objects[ends[1]]) & (objects[ends[0]] > 0)
    count = int(same.sum())
    first, second = keys[ends[:, same]]
    return Pairs(first, second, np.full(count, LIKE, np.int32), np.ones(count, bool), np.zeros(count, np.int64))
