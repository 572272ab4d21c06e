"""Drawn truths and simulated models: the same for the same seed, and right where there are no errors."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.bench.stitching.distances import CAP, signed
from pipeline.bench.stitching.errors import NO_ERRORS
from pipeline.bench.stitching.predictor import Predictor
from pipeline.bench.stitching.scene import FIELD, HOUSE, STUFF, Truth, draw_truth
from pipeline.stitch.fuse import fuse
from pipeline.stitch.queries import Rules
from pipeline.tiling import TilePlan

SIDE = 512


@pytest.fixture(scope="module")
def truth() -> Truth:
    """A small scene with something of everything."""
    return draw_truth(6, SIDE)


@pytest.fixture
def plan() -> TilePlan:
    """Tiles of 256 cells with an overlap of a quarter."""
    return TilePlan((SIDE, SIDE), (256, 256), (64, 64), 16)


def test_the_same_seed_draws_the_same_truth(truth: Truth):
    """Cell for cell, and another seed draws another one."""
    again = draw_truth(6, SIDE)
    assert np.array_equal(truth.ids, again.ids)
    assert np.array_equal(truth.kinds, again.kinds)
    assert np.array_equal(truth.ground, again.ground)
    assert not np.array_equal(truth.ids, draw_truth(4, SIDE).ids)


def test_a_truth_has_all_classes(truth: Truth):
    """Things of each class, and a river in the ground."""
    assert set(truth.kinds[1:].tolist()) == set(range(5))
    assert set(np.unique(truth.ground).tolist()) <= STUFF
    assert (truth.ground == 8).any()


def test_every_object_is_connected(truth: Truth):
    """What is cut in two by something above it could not be one for anybody."""
    for number in range(1, len(truth) + 1):
        assert ndimage.label(truth.ids == number, np.ones((3, 3)))[1] == 1


def test_houses_of_a_row_touch(truth: Truth):
    """And pairs that touch are given once, the lower id first."""
    houses = [pair for pair in truth.touching if all(truth.kinds[number] == HOUSE for number in pair)]
    assert len(houses) >= 4
    assert all(one < other for one, other in truth.touching)


def test_distances_change_sign_at_the_outline():
    """Half a cell on either side, at most the cap, and in blocks as in one piece."""
    mask = np.zeros((300, 300), bool)
    mask[100:220, 20:260] = True
    distance = signed(mask)
    assert (distance[99, 150], distance[100, 150]) == (-0.5, 0.5)
    assert (distance.min(), distance.max()) == (-CAP, CAP)
    whole = np.where(mask, ndimage.distance_transform_edt(mask) - 0.5, 0.5 - ndimage.distance_transform_edt(~mask))
    assert np.allclose(distance, whole.clip(-CAP, CAP))


def test_a_tile_without_errors_is_the_truth(truth: Truth, plan: TilePlan):
    """Fused, it has the objects' outlines, each object once."""
    tile = plan.tile(1, 1)
    queries = Predictor(truth, plan, 0, NO_ERRORS)(tile)
    fused = fuse(queries, Rules(stuff=STUFF))
    things = ~np.isin(np.append(fused.classes, 5), list(STUFF))
    found, true = np.where(things[fused.labels], fused.labels + 1, 0), truth.ids[tile.window.slices]
    assert np.array_equal(found > 0, true > 0)
    assert len(np.unique(found * 1000 + true)) == len(np.unique(true))


def test_a_tile_depends_on_seed_and_place_alone(truth: Truth, plan: TilePlan):
    """Not on what was read before."""
    first, second = Predictor(truth, plan, 5), Predictor(truth, plan, 5)
    for tile in plan.covering(plan.raster):
        first(tile)
    one, other = first(plan.tile(0, 1)), second(plan.tile(0, 1))
    assert np.array_equal(one.masks, other.masks)
    assert np.array_equal(one.class_probs, other.class_probs)
    assert not np.array_equal(one.masks[0], Predictor(truth, plan, 6)(plan.tile(0, 1)).masks[0])


def test_queries_come_by_falling_score_in_their_boxes(truth: Truth, plan: TilePlan):
    """As the fusion wants them."""
    queries = Predictor(truth, plan, 5)(plan.tile(1, 0))
    assert (np.diff(queries.class_probs.max(1)) <= 0).all()
    assert np.allclose(queries.class_probs.sum(1), 1, atol=1e-5)
    for mask, (top, left, bottom, right) in zip(queries.masks, queries.boxes.tolist(), strict=True):
        inside = mask[top:bottom, left:right]
        assert all(line.any() for line in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
        assert np.count_nonzero(mask) == np.count_nonzero(inside)


def test_errors_are_worse_at_edges_but_the_rasters():
    """A bent outline lies nearer to the truth at the border of the raster than at a tile's edge."""
    ids = np.zeros((128, 256), np.int32)
    ids[64:] = 1
    truth = Truth(ids, np.array([-1, FIELD]), np.full(ids.shape, 5, np.uint8))
    plan = TilePlan(ids.shape, (128, 128), (0, 0), 16)
    bent = np.zeros(2)
    for seed in range(20):
        queries = Predictor(truth, plan, seed, replace(NO_ERRORS, edge_noise=8.0))(plan.tile(0, 0))
        wrong = (queries.masks[queries.class_probs.argmax(1) == FIELD][0] >= 128) != (ids[:, :128] > 0)
        bent += wrong[:, :16].sum(), wrong[:, -16:].sum()
    assert bent[1] > 5 * bent[0]


def test_false_objects_push_others_aside(truth: Truth, plan: TilePlan):
    """With many of them, objects that were certain lose cells; where they are not, nothing has changed."""
    tile = plan.tile(0, 0)
    none, many = (Predictor(truth, plan, 0, replace(NO_ERRORS, false=rate))(tile) for rate in (0.0, 20.0))
    true = [mask for mask, probs in zip(many.masks, many.class_probs, strict=True) if probs.max() == 1]
    assert len(true) == len(none.masks) < len(many.masks)
    claimed, before = np.max(true, axis=0), none.masks.max(0)
    assert (claimed <= before).all()
    assert 0 < (claimed < before).mean() < 0.9


def test_a_tile_may_overhang_the_truth():
    """What lies beyond is not valid, and no query is there."""
    truth = draw_truth(6, 200)
    plan = TilePlan((200, 200), (256, 256), (64, 64), 16)
    queries = Predictor(truth, plan, 0)(plan.tile(0, 0))
    assert queries.valid.sum() == 200 * 200
    assert not queries.masks[:, ~queries.valid].any()
