"""Blending on the lattice, and what becomes of it at full resolution."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.mosaic.codes import codes
from pipeline.stitch.blend import FINE, Blended, blend
from pipeline.stitch.exact import exact
from pipeline.stitch.label import accept, candidates, crop, enlarge, label
from pipeline.stitch.window import UNIT, taper, tile_weights
from pipeline.tiling import TilePlan, Window

PLAN = TilePlan((200, 333), (64, 96), (16, 32), 16)


@pytest.mark.parametrize("overlap", [16, 32, 64, 96])
def test_the_ramps_of_neighbours_sum_to_one(overlap):
    """So that where tiles agree, blending changes nothing."""
    axis = TilePlan((2000, 2000), (128, 128), (overlap, overlap), 16).rows
    first, second = taper(axis, 1, 4), taper(axis, 2, 4)
    shared = overlap // 4
    if overlap <= axis.tile // 2:
        np.testing.assert_allclose(first[-shared:] + second[:shared], 1)


def test_the_raster_border_has_no_ramp():
    """Nobody else sees those pixels."""
    assert (tile_weights(PLAN, PLAN.tile(0, 0), 4)[:8, :8] == UNIT).all()


def test_weights_are_never_zero():
    """What only a rim has seen still gets a value."""
    assert all(tile_weights(PLAN, tile, 4).min() >= 1 for tile in PLAN.covering(PLAN.raster))


@pytest.mark.parametrize("stride", [4, 7, 8, 16])
def test_enlarging_equals_torch(stride):
    """Pixel centres lie where align_corners=False puts them."""
    plane = np.random.default_rng(stride).integers(0, 2**16, (9, 11)).astype(np.uint32)
    ours = enlarge(np.pad(plane, 1, mode="edge"), stride) / (2 * stride) ** 2
    theirs = F.interpolate(torch.from_numpy(plane.astype(float))[None, None], scale_factor=stride, mode="bilinear")
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), rtol=1e-12)


def random_reader(num_classes, seed=0, skip=()):
    """A reader of smooth-less random codes: the same tile always gives the same codes."""

    def read(tile):
        if tile.rank in skip:
            return None
        shape = (num_classes, tile.window.height // 4, tile.window.width // 4)
        return np.random.default_rng([seed, tile.rank]).integers(0, 4000, shape).astype(np.uint16)

    return read


def whole_mosaic(plan, read, num_classes, side):
    """Labels of the whole raster, made window by window."""
    classes = np.empty(plan.shape, "u1")
    confidence = np.empty(plan.shape, "u1")
    for row in range(0, plan.shape[0], side):
        for col in range(0, plan.shape[1], side):
            window = Window(row, col, side, side).intersect(plan.raster)
            blended = blend(plan, window, 4, num_classes, read)
            made = crop(
                label(blended, 4, codes(num_classes))[0], window, 4, np.ones(window[2:], bool), codes(num_classes)
            )
            classes[window.slices], confidence[window.slices] = made
    return classes, confidence


@pytest.mark.parametrize("side", [50, 64, 128])
def test_the_mosaic_does_not_depend_on_how_it_is_cut(side):
    """Bit for bit, whatever the output block."""
    whole, cut = (whole_mosaic(PLAN, random_reader(5), 5, size) for size in (1000, side))
    for a, b in zip(whole, cut, strict=True):
        assert (a == b).all()


def test_blending_equals_weighted_means_in_floating_point():
    """The integers stand for what they should."""
    read, cells = random_reader(3), (PLAN.rows.edge // 4, PLAN.cols.edge // 4)
    sums, weights = np.zeros((3, *cells)), np.zeros(cells)
    for tile in PLAN.covering(PLAN.raster):
        place = tuple(slice(s.start // 4, s.stop // 4) for s in tile.window.slices)
        weight = tile_weights(PLAN, tile, 4).astype(float)
        sums[:, *place] += read(tile) * weight
        weights[place] += weight
    ours = blend(PLAN, PLAN.raster, 4, 3, read).scores[:, 1:-1, 1:-1] / FINE
    np.testing.assert_allclose(ours, (sums / weights)[:, : ours.shape[1], : ours.shape[2]], atol=0.5 / FINE + 1e-9)


def test_cells_that_no_tile_has_seen_are_unknown():
    """Which happens only where every tile was nodata all over."""
    known = blend(PLAN, PLAN.raster, 4, 2, random_reader(2, skip={0})).known
    assert known.min() == 0
    assert (blend(PLAN, PLAN.raster, 4, 2, random_reader(2)).known == 1).all()


@given(st.integers(2, 12), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_skipped_classes_could_not_have_won(num_classes, seed):
    """The argmax over candidates is the argmax over all."""
    rng = np.random.default_rng(seed)
    scores = (rng.random((num_classes, 7, 9)) ** 3 * 2000 * rng.random((num_classes, 1, 1))).astype(np.uint32)
    planes = np.stack([enlarge(score, 4) for score in scores])
    expected = np.where(planes.max(0) > 0, planes.argmax(0), 254)
    [made] = label(Blended(scores, np.ones(scores.shape[1:], np.uint32)), 4, codes(num_classes))
    assert (made.classes == expected).all()
    assert set(np.unique(expected)) - {254} <= set(candidates(scores).tolist())


@given(st.integers(1, 12), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_second_place_is_that_of_a_sort(num_classes, seed):
    """By falling score, equal ones by class; where no second class has any score there is none."""
    rng = np.random.default_rng(seed)
    scores = (rng.random((num_classes, 7, 9)) ** 3 * 3).astype(np.uint32)
    planes = np.stack([*(enlarge(score, 4) for score in scores), np.zeros((20, 28), np.uint32)]).astype(int)
    order = np.argsort(-planes, axis=0, kind="stable")[:2]
    expected = np.where(np.take_along_axis(planes, order, 0) > 0, order, 254)
    made = label(Blended(scores, np.ones(scores.shape[1:], np.uint32)), 4, codes(num_classes), places=2)
    assert (np.stack([place.classes for place in made]) == expected).all()


def test_a_class_that_is_best_nowhere_on_the_lattice_may_win_between():
    """Second to two different neighbours, it is first halfway."""
    scores = np.array([[[1000, 0]], [[650, 650]], [[0, 1000]]], np.uint32)
    scores = np.pad(scores, ((0, 0), (1, 1), (1, 1)), mode="edge")
    [made] = label(Blended(scores, np.ones(scores.shape[1:], np.uint32)), 4, codes(3))
    assert made.classes[0].tolist() == [0, 0, 0, 1, 1, 2, 2, 2]


def test_confidence_is_the_share_of_the_best_class():
    """Best over the larger of one and the sum over classes."""
    for stored, expected in (([512, 0], 127), ([1024, 1024], 127), ([1024, 0], 254), ([4096, 0], 254)):
        scores = np.array(stored, np.uint32)[:, None, None] * np.full((3, 3), FINE, np.uint32)
        [made] = label(Blended(scores, np.ones((3, 3), np.uint32)), 4, codes(2))
        assert (made.confidence == expected).all()


def test_a_pixel_without_any_score_is_unlabelled():
    """Valid, but nothing speaks for any class."""
    [made] = label(Blended(np.zeros((3, 4, 4), np.uint32), np.ones((4, 4), np.uint32)), 4, codes(3))
    assert (made.classes == 254).all()
    assert (made.confidence == 0).all()


def test_below_the_threshold_a_pixel_is_unlabelled_and_keeps_its_confidence():
    """It is that of the best rejected."""
    scores = np.full((1, 3, 3), 512 * FINE, np.uint32)
    made = accept(label(Blended(scores, np.ones((3, 3), np.uint32)), 4, codes(1))[0], 0.6, codes(1))
    assert (made.classes == 254).all()
    assert (made.confidence == 127).all()


def test_classes_above_254_need_two_bytes():
    """And other codes for unlabelled and nodata."""
    scores = np.zeros((300, 3, 3), np.uint32)
    scores[299] = 5000
    [made] = label(Blended(scores, np.ones((3, 3), np.uint32)), 4, codes(300))
    assert made.classes.dtype == np.uint16
    assert (made.classes == 299).all()


def test_exact_stitching_of_one_tile_is_the_tile_itself():
    """One tile, one answer."""
    plan = TilePlan((60, 90), (64, 96), (16, 16), 16)
    scores = np.random.default_rng(0).random((64, 96, 4)).astype(np.float32)
    [made] = exact(plan, plan.raster, 4, lambda tile, rows: scores[rows], codes(4))
    assert (made.classes == scores.argmax(-1)[:60, :90]).all()


def test_exact_stitching_has_a_second_place_too():
    """Of the same tile."""
    plan = TilePlan((60, 90), (64, 96), (16, 16), 16)
    scores = np.random.default_rng(0).random((64, 96, 4)).astype(np.float32)
    _, second = exact(plan, plan.raster, 4, lambda tile, rows: scores[rows], codes(4), places=2)
    assert (second.classes == scores.argsort(-1)[:60, :90, -2]).all()


def test_exact_stitching_equals_blending_whole_arrays():
    """Strips and windows change nothing but memory."""
    per_tile = {
        t.rank: np.random.default_rng(t.rank).random((64, 96, 3)).astype(np.float32) for t in PLAN.covering(PLAN.raster)
    }
    sums, padded = np.zeros((PLAN.rows.edge, PLAN.cols.edge, 3)), (PLAN.rows.edge, PLAN.cols.edge)
    assert padded[0] >= PLAN.shape[0]
    for tile in PLAN.covering(PLAN.raster):
        sums[tile.window.slices] += per_tile[tile.rank] * tile_weights(PLAN, tile, 1)[..., None]
    [made] = exact(PLAN, PLAN.raster, 3, lambda tile, rows: per_tile[tile.rank][rows], codes(3))
    assert (made.classes == sums.argmax(-1)[: PLAN.shape[0], : PLAN.shape[1]]).mean() > 0.9999
