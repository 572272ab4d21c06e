"""Objects across tiles: how many there are, and which pixels they have."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from pipeline.bench.stitching.crowd import draw_links
from pipeline.stitch.links import link
from pipeline.stitch.objects import resolve
from pipeline.stitch.paint import paint
from pipeline.stitch.queries import Rules
from pipeline.stitch.views import Views
from pipeline.stitch.whole import stitched
from pipeline.tiling import Window

OVERLAPS = (16, 32, 48)


def line(shape, points, width):
    """A polyline of a width in pixels, as a map of 0 and 1."""
    rows, cols = np.indices(shape)
    found = np.zeros(shape, np.int64)
    for (r0, c0), (r1, c1) in pairwise(points):
        length = (r1 - r0) ** 2 + (c1 - c0) ** 2
        along = (((rows - r0) * (r1 - r0) + (cols - c0) * (c1 - c0)) / length).clip(0, 1)
        found[np.hypot(rows - r0 - along * (r1 - r0), cols - c0 - along * (c1 - c0)) <= width / 2] = 1
    return found


def s_curve():
    """An S over 7 x 7 tiles of 64 pixels."""
    side = 7 * 48 + 16
    low, high = 20, side - 20
    return line(
        (side, side), [(low, high), (low, low), (side // 2, low), (side // 2, high), (high, high), (high, low)], 9
    )


def ring():
    """A ring around a whole tile."""
    rows, cols = np.indices((256, 256)) - 127.5
    return (np.abs(np.hypot(rows, cols) - 90) < 6).astype(np.int64)


def comb():
    """Teeth that meet in a back two tiles on: two parts in every tile but the last."""
    found = np.zeros((120, 260), np.int64)
    found[20:28, 10:240] = found[44:52, 10:240] = found[20:52, 230:240] = 1
    return found


@pytest.mark.parametrize("overlap", OVERLAPS[:2])
@pytest.mark.parametrize("shape", [s_curve, ring, comb])
def test_an_object_larger_than_its_tiles_is_one(shape, overlap, tell, plan_of):
    """However it winds, and wherever it is cut."""
    truth = shape()
    found = stitched(plan_of(truth.shape, overlap), tell(truth), Rules())
    np.testing.assert_array_equal(found, truth)


def terrace(count=20, house=9):
    """A row of touching houses."""
    truth = np.zeros((64, count * house + 40), np.int64)
    for number in range(count):
        truth[20:40, 20 + number * house : 20 + (number + 1) * house] = number + 1
    return truth


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_touching_houses_stay_apart(overlap, tell, plan_of, numbered):
    """Twenty of them."""
    truth = terrace()
    np.testing.assert_array_equal(
        numbered(stitched(plan_of(truth.shape, overlap), tell(truth), Rules())), numbered(truth)
    )


@pytest.mark.parametrize("tile", range(1, 6))
def test_one_tile_that_takes_two_houses_for_one_is_overruled(tile, tell, plan_of):
    """A mask over two houses links to both; the tiles that see their border keep them apart."""
    truth = terrace()
    plan = plan_of(truth.shape, 32)
    window = plan.tile(0, tile).window
    border = next(col for col in range(window.col + 4, window.right) if truth[30, col] != truth[30, col - 1])
    pair = truth[30, border - 1], truth[30, border]
    merged = tell(np.where(truth == pair[1], pair[0], truth))
    usual = tell(truth)
    found = stitched(plan, lambda some: merged(some) if some.rank == tile else usual(some), Rules())
    assert len(np.unique(found)) - 1 == 20


def test_a_mask_over_two_houses_that_another_tile_sees_whole_leaves_no_trace(tell, plan_of, numbered):
    """Not even where the tile that errs sees them more centrally; every border that two tiles see."""
    truth = terrace()
    plan = plan_of(truth.shape, 48)
    usual, borders = tell(truth), 0
    for tile, other in pairwise(plan.covering(plan.raster)):
        strip = tile.window.intersect(other.window)
        for left in np.unique(truth[30, strip.col + 9 : strip.right - 18])[1:]:
            merged = tell(np.where(truth == left + 1, left, truth))
            found = stitched(plan, lambda some: merged(some) if some.rank == tile.rank else usual(some), Rules())  # noqa: B023
            np.testing.assert_array_equal(numbered(found), numbered(truth))
            borders += 1
    assert borders > 10


def test_a_mask_over_two_houses_and_more_beyond_the_other_tile_stays(tell, plan_of):
    """Where the tile that sees two does not see all of the mask: what lies beyond is not lost."""
    truth = terrace(6)
    plan = plan_of(truth.shape, 32)
    last = plan.covering(plan.raster)[0].window.right
    one = tell(np.where(truth > 0, 1, 0))
    found = stitched(plan, lambda some: one(some) if some.rank == 1 else tell(truth)(some), Rules())
    assert (found[30, last : last + 8] > 0).all()


def scattered(side=300, count=90, seed=0):
    """Rectangles, later ones over earlier ones; what one leaves of another in two places is two."""
    rng, truth = np.random.default_rng(seed), np.zeros((side, side), np.int64)
    for number in range(1, count + 1):
        row, col = rng.integers(0, side, 2)
        height, width = rng.integers(6, 80, 2)
        truth[row : row + height, col : col + width] = number
    pieces = [ndimage.label(truth == number)[0] for number in range(1, count + 1)]
    return np.sum([np.where(piece > 0, piece + 100 * number, 0) for number, piece in enumerate(pieces)], axis=0)


@pytest.mark.parametrize("overlap", [0, *OVERLAPS])
@pytest.mark.parametrize("seed", range(3))
def test_perfect_tiles_come_back_as_the_truth(overlap, seed, tell, plan_of, numbered):
    """Pixel by pixel, objects larger than a tile, touching and hidden in part as they are."""
    truth = scattered(seed=seed)
    found = stitched(plan_of(truth.shape, overlap), tell(truth), Rules())
    assert np.array_equal(found > 0, truth > 0)
    if overlap:
        np.testing.assert_array_equal(numbered(found), numbered(truth))


@pytest.mark.parametrize("window", [Window(0, 0, 300, 300), Window(0, 0, 128, 300), Window(100, 50, 77, 91)])
def test_a_window_is_painted_as_the_whole_is(window, tell, plan_of):
    """Whatever the mosaic is cut into."""
    truth = scattered()
    plan, rules = plan_of(truth.shape, 32), Rules()
    views = Views(plan, 1, tell(truth), rules)
    objects = resolve(link(views, plan.covering(plan.raster)), rules, 1, 64**2)
    [whole] = paint(views, objects, plan.raster, 0.5)
    [part] = paint(views, objects, window, 0.5)
    np.testing.assert_array_equal(part.numbers, whole.numbers[window.slices])
    np.testing.assert_array_equal(part.strengths, whole.strengths[window.slices])


@pytest.mark.parametrize("order", ["reversed", "shuffled", "halves"])
def test_objects_do_not_depend_on_the_order_of_the_tiles(order, tell, plan_of):
    """Nor on who linked which of them."""
    truth = scattered()
    plan, rules = plan_of(truth.shape, 32), Rules()
    tiles = plan.covering(plan.raster)
    views = Views(plan, 1, tell(truth), rules)
    expected = resolve(link(views, tiles), rules, 1, 64**2)
    some = {
        "reversed": tiles[::-1],
        "shuffled": np.random.default_rng(0).permutation(tiles).tolist(),
        "halves": tiles[::2] + tiles[1::2],
    }
    found = resolve(link(Views(plan, 1, tell(truth), rules), some[order]), rules, 1, 64**2)
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("counters", [1, 40, 2**22])
def test_an_object_has_the_class_that_its_segments_say_most(counters, monkeypatch):
    """By area, score and probability; however many objects are looked at at a time."""
    monkeypatch.setattr("pipeline.stitch.totals.COUNTERS", counters)
    links = next(draw_links(3))
    shuffled = np.random.default_rng(0).permutation(links.segments.classes)
    links = replace(links, segments=links.segments._replace(classes=shuffled))
    found, segments = resolve(links, Rules(), 1, 64**2), links.segments
    for number, kind in enumerate(found.classes.tolist(), 1):
        said = np.zeros(200, int)
        for place in np.flatnonzero(found.numbers == number).tolist():
            weight = int(segments.areas[place]) * int(segments.scores[place])
            said[segments.classes[place]] += weight * segments.class_probs[place].astype(int)
        assert kind == said.argmax()


def test_an_object_as_large_as_the_raster_is_one(tell, plan_of):
    """With all its pixels."""
    truth = np.ones((200, 300), np.int64)
    assert (stitched(plan_of(truth.shape, 16), tell(truth), Rules()) == 1).all()


def test_a_raster_of_nothing_but_nodata_has_no_objects(tell, plan_of):
    """No tile was ever inferred."""
    truth = np.ones((100, 100), np.int64)
    assert not stitched(plan_of(truth.shape, 16), tell(truth, np.zeros(truth.shape, bool)), Rules()).any()


def test_objects_go_on_beside_tiles_that_were_left_out(tell, plan_of):
    """Where another tile sees them."""
    truth = ring()
    plan = plan_of(truth.shape, 32)
    found = stitched(plan, tell(truth, skip=(0, 5, 9)), Rules())
    assert np.unique(found).tolist() == [0, 1]
    assert ((found > 0) & (truth == 0)).sum() == 0


def test_one_single_tile_that_overhangs_the_raster(tell, plan_of):
    """A raster smaller than a tile."""
    truth = np.pad(np.ones((20, 30), np.int64), 5)
    np.testing.assert_array_equal(
        stitched(plan_of(truth.shape, 16), tell(truth, np.ones(truth.shape, bool)), Rules()), truth
    )


def test_small_objects_are_dropped(tell, plan_of):
    """Below min_area pixels."""
    truth = scattered()
    areas = np.bincount(truth.ravel())[truth]
    found = stitched(plan_of(truth.shape, 32), tell(truth), Rules(min_area=200))
    assert not found[areas < 190].any()
    assert (found[(areas > 210) & (truth > 0)] > 0).all()


def test_tiles_that_are_forgotten_at_once_change_nothing(tell, plan_of, monkeypatch):
    """Another thread may make so many others known meanwhile."""
    truth = scattered(side=150, count=20)
    expected = stitched(plan_of(truth.shape, 32), tell(truth), Rules())
    monkeypatch.setattr("pipeline.stitch.views.REMEMBERED", 0)
    np.testing.assert_array_equal(stitched(plan_of(truth.shape, 32), tell(truth), Rules()), expected)


def test_what_is_left_of_an_object_that_others_hide_is_none(tell, plan_of):
    """Two tiles disagree, and the weaker's object would keep a rim of a few pixels."""
    shape = (64, 96)
    one, other = np.zeros((2, *shape), np.int64)
    one[10:50, 4:62] = 1
    other[20:40, 44:66] = 2
    first, second = tell(one), tell(other)
    found = stitched(plan_of(shape, 32), lambda tile: (first, second)[tile.rank](tile), Rules(merge_threshold=0.9))
    np.testing.assert_array_equal(found, one)


def test_a_window_is_painted_as_the_whole_is_where_objects_are_hidden(tell, plan_of):
    """What is hidden is told by what is around, also beyond the window; the second best of each pixel likewise."""
    truth, noise = scattered(seed=1), scattered(seed=2)
    plan, rules = plan_of(truth.shape, 32), Rules()
    told, mistold = tell(truth), tell(noise)
    views = Views(plan, 1, lambda tile: (told, told, mistold)[tile.rank % 3](tile), rules)
    objects = resolve(link(views, plan.covering(plan.raster)), rules, 1, 64**2)
    whole = paint(views, objects, plan.raster, 0.5, places=2)
    assert ((whole[1].numbers > 0) & (whole[1].numbers != whole[0].numbers)).any()
    assert (whole[1].strengths <= whole[0].strengths).all()
    for window in (Window(0, 0, 128, 128), Window(128, 96, 64, 204), Window(250, 3, 50, 60)):
        for part, expected in zip(paint(views, objects, window, 0.5, places=2), whole, strict=True):
            np.testing.assert_array_equal(part.numbers, expected.numbers[window.slices])
            np.testing.assert_array_equal(part.strengths, expected.strengths[window.slices])
