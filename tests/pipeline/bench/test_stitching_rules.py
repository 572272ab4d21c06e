"""Each rule on two tiles, and all on a scene; each metric on a case that can be reckoned by hand."""

import numpy as np
import pytest

from pipeline.bench.stitching import metrics
from pipeline.bench.stitching.errors import NO_ERRORS
from pipeline.bench.stitching.metrics import Overlaps, score
from pipeline.bench.stitching.pieces import Fusions, Pieces, core, cuts
from pipeline.bench.stitching.rules import RULES
from pipeline.bench.stitching.scene import CLASSES, STUFF, Truth, draw_truth
from pipeline.bench.stitching.table import FUSION, METHODS, Case, check_rules, measure_stitching, tabulate
from pipeline.errors import UsageError
from pipeline.evaluate import Quality
from pipeline.stitch.fuse import Fused, fuse
from pipeline.stitch.queries import TileQueries
from pipeline.tiling import TilePlan

PLAN = TilePlan((32, 48), (32, 32), (16, 16), 16)
"""Two tiles, columns 0 to 32 and 16 to 48; the cut is at 24."""


def fused(thing: np.ndarray, score: float) -> Fused:
    """A tile with one thing of class 0 at these cells, stuff around it, and nothing in its first rows."""
    masks = np.where([thing, ~thing], 255, 0).astype(np.uint8)
    probs = np.zeros((2, CLASSES + 1), np.float32)
    probs[0, 0], probs[1, min(STUFF)] = score, 0.9
    valid = np.arange(len(thing))[:, None] * np.ones_like(thing) >= 4
    return fuse(TileQueries(masks, probs, valid, np.array([[0, 0, *thing.shape]] * 2)), FUSION)


def two_tiles(first: tuple[slice, slice], second: tuple[slice, slice]) -> Fusions:
    """A thing in each tile, at these rows and columns of the raster."""
    found = {}
    for tile, place, sure in zip(PLAN.covering(PLAN.raster), (first, second), (0.9, 0.95), strict=True):
        raster = np.zeros(PLAN.shape, bool)
        raster[place] = True
        found[tile.rank] = (tile, fused(raster[tile.window.slices], sure))
    return found


@pytest.fixture
def across() -> Fusions:
    """One object from column 8 to 40, seen alike by both tiles."""
    return two_tiles((slice(8, 16), slice(8, 32)), (slice(8, 16), slice(16, 40)))


def boxes(image: np.ndarray) -> list[tuple[int, int]]:
    """First and last column of each id in the middle of the object, ascending."""
    line = image[12]
    return sorted((int(np.flatnonzero(line == i)[0]), int(np.flatnonzero(line == i)[-1])) for i in set(line) - {0})


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("paste", [(8, 23), (24, 39)]),
        ("touch", [(8, 39)]),
        ("touch, shrunk", [(8, 39)]),
        ("centre owns", [(8, 15), (16, 39)]),  # both own their piece; the better score lies on top
        ("greedy NMM", [(8, 39)]),
        ("strip IoU", [(8, 39)]),
        ("mutual best", [(8, 39)]),
    ],
)
def test_an_object_across_the_cut(rule: str, expected: list[tuple[int, int]], across: Fusions):
    """Joined by all but those who do not join; stuff is nothing."""
    found = RULES[rule](PLAN, across)
    assert boxes(found) == expected
    assert not found[20:].any()


@pytest.mark.parametrize(
    ("rule", "joined"),
    [("touch", True), ("touch, shrunk", False), ("strip IoU", False), ("mutual best", False), ("greedy NMM", False)],
)
def test_two_that_touch_by_a_cell(rule: str, joined: bool):
    """Only who looks at nothing but the cut's cells takes them for one."""
    tiles = two_tiles((slice(8, 16), slice(8, 26)), (slice(15, 24), slice(22, 40)))
    assert (len(np.unique(RULES[rule](PLAN, tiles))) == 2) is joined


def test_less_agreement_is_enough_for_each_others_best():
    """An IoU of 0.4 in the strip joins those who are each other's best, not others."""
    tiles = two_tiles((slice(8, 18), slice(8, 32)), (slice(8, 12), slice(16, 40)))
    assert len(np.unique(RULES["mutual best"](PLAN, tiles))) == 2
    assert len(np.unique(RULES["strip IoU"](PLAN, tiles))) == 3


def test_who_is_taken_in_takes_in_nobody():
    """Greedy merging goes one hop: three views in a row are not one object."""
    plan = TilePlan((32, 64), (32, 32), (16, 16), 16)
    found = {}
    for tile, sure in zip(plan.covering(plan.raster), (0.95, 0.9, 0.85), strict=True):
        raster = np.zeros(plan.shape, bool)
        raster[8:16] = True
        found[tile.rank] = (tile, fused(raster[tile.window.slices], sure))
    assert boxes(RULES["greedy NMM"](plan, found)) == [(0, 47), (48, 63)]
    assert boxes(RULES["mutual best"](plan, found)) == [(0, 63)]


def test_cores_cover_the_raster_once():
    """Also with a last tile that slides back, and without overlap."""
    for overlap in (0, 16, 32):
        plan = TilePlan((80, 144), (64, 64), (overlap, overlap), 16)
        seen = np.zeros(plan.shape, int)
        for tile in plan.covering(plan.raster):
            seen[core(plan, tile).slices] += 1
        assert (seen == 1).all()
    assert cuts(PLAN.cols) == [24]


def test_areas_and_common_cells_are_counted(across: Fusions):
    """Each piece has 8 x 24 cells, 8 x 16 of them in the strip."""
    pieces = Pieces.of(PLAN, across)
    assert pieces.areas[1:].tolist() == [192, 192]
    common = pieces.common
    assert (common.first.tolist(), common.second.tolist(), common.shared.tolist()) == ([1], [2], [128])
    assert common.iou.tolist() == [1.0]


@pytest.fixture
def truth() -> Truth:
    """An object of 20 x 10 cells that the cut at 24 crosses, one of 10 x 10 that it does not, and a long one."""
    ids = np.zeros(PLAN.shape, np.int32)
    ids[2:12, 14:34], ids[14:24, 2:12], ids[28:30, 2:42] = 1, 2, 3
    return Truth(ids, np.zeros(4, np.int64), np.full(ids.shape, 5, np.uint8))


def test_the_truth_itself_is_perfect(truth: Truth):
    """Nothing is merged or split, and no label changes where the truth is quiet."""
    found = score(truth, truth.ids.astype(np.int64), PLAN)
    assert (found.pq, found.sq, found.rq, found.seam_pq, found.big_iou) == (100,) * 5
    assert (found.over_merge, found.over_split, found.seam_cells) == (0, 0, 0)


def test_halves_are_false_along_the_cut(truth: Truth):
    """Both halves fail at an IoU of one half; the object that no cut crosses counts for the whole alone."""
    found = truth.ids.astype(np.int64)
    found[:, 24:][found[:, 24:] == 1] = 9
    overlaps = Overlaps.of(truth, found)
    assert metrics.seam_quality(overlaps, truth, found, PLAN) == Quality(1, 2, 1, 1.0)
    assert score(truth, found, PLAN).pq == pytest.approx(100 * 2 / 3.5)
    assert metrics.over_split(overlaps) == 1
    assert metrics.seam_cells(truth, found, PLAN) == pytest.approx(1000 * 10 / 32)


def test_false_objects_far_from_cuts_do_no_harm_there(truth: Truth):
    """They lower the whole quality, not that along the cuts; those across a cut lower both."""
    found = truth.ids.astype(np.int64)
    found[25:27, 40:44] = 7
    overlaps = Overlaps.of(truth, found)
    assert metrics.seam_quality(overlaps, truth, found, PLAN).spurious == 0
    found[25:27, 20:40] = 7
    assert metrics.seam_quality(Overlaps.of(truth, found), truth, found, PLAN).spurious == 1


def test_objects_under_one_id_are_merged(truth: Truth):
    """Two of them, once each is half covered; a little of a third one does not count."""
    found = truth.ids.astype(np.int64)
    found[found == 2] = 1
    found[28:30, 2:10] = 1
    overlaps = Overlaps.of(truth, found)
    assert metrics.over_merged(overlaps) == 2
    assert metrics.over_split(overlaps) == 1


def test_big_objects_are_those_longer_than_a_tile(truth: Truth):
    """Three quarters of one are an IoU of 0.75, and less than half is none."""
    found = truth.ids.astype(np.int64)
    found[28:30, 32:] = 0
    assert metrics.big_iou(Overlaps.of(truth, found), truth, PLAN) == 0.75
    found[28:30, 20:] = 0
    assert metrics.big_iou(Overlaps.of(truth, found), truth, PLAN) == 0
    assert np.isnan(metrics.big_iou(Overlaps.of(truth, found), truth, TilePlan((32, 48), (48, 48), (0, 0), 16)))


def test_without_errors_the_strips_agree():
    """Perfect queries give a perfect map by the IoU in the strips at an overlap of a quarter."""
    truth = draw_truth(1, 512)
    case = Case(truth, 32, 0, NO_ERRORS, tile=128)
    for name in ("strip IoU", "mutual best"):
        found, _ = METHODS[name](case)
        assert score(truth, found, case.plan).pq == 100


def test_a_table_has_means_and_their_errors():
    """One row per overlap and rule over all seeds; without overlap no rule that needs it."""
    found = list(measure_stitching([1, 2], [0, 32], ["paste", "strip IoU"], side=256, tile=128))
    rows = tabulate(found)
    assert [(row.overlap, row.rule, row.seeds) for row in rows] == [
        (0, "paste", 2),
        (32, "paste", 2),
        (32, "strip IoU", 2),
    ]
    one, two = (each.scores.pq for each in found if (each.overlap, each.rule) == (0, "paste"))
    assert rows[0].mean["pq"] == pytest.approx((one + two) / 2, abs=1e-3)
    assert rows[0].error["pq"] == pytest.approx(abs(one - two) / 2, abs=1e-3)
    assert "PQ" in rows[0].line
    assert tabulate(found[:1])[0].error["pq"] is None


def test_ours_is_a_row():
    """The stitching of this package, from queries; no stuff is left in its map."""
    case = Case(draw_truth(1, 256), 32, 0, tile=128)
    found, seconds = METHODS["stitched"](case)
    assert found.min() == 0
    assert found.max() > 0
    assert seconds > 0


def test_perfect_links_are_a_bound():
    """Told which segments are one object, the stitching leaves fewer in pieces, and is better."""
    case = Case(draw_truth(2, 512), 32, 0, tile=128)
    told, ours = (score(case.truth, METHODS[name](case)[0], case.plan) for name in ("perfect links", "stitched"))
    assert told.over_split < ours.over_split
    assert told.pq > ours.pq


def test_an_unknown_rule_is_refused():
    """Naming those that there are."""
    with pytest.raises(UsageError, match="--rule glue: there is none; give paste"):
        check_rules(["glue"])
