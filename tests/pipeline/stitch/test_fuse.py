"""A tile's queries become its segments, as the reference's in-tile fusion has it."""

import numpy as np
import pytest
import torch

from eomt_core.outputs import QueryMasks
from eomt_core.postprocess import panoptic, with_instance_scores
from pipeline.stitch.fuse import fuse, query_scores
from pipeline.stitch.queries import CERTAIN, LOGIT_UNIT, LOGIT_ZERO, SURE, Rules, TileQueries, least_code, probabilities
from pipeline.store import boxes

CLASSES = 4


def random_tile(seed, count=12, side=16):
    """Queries with codes of any value but the lowest, and any classes."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(1, 256, (count, side // 4, side // 4)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    logits = rng.normal(0, 3, (count, CLASSES + 1))
    probs = torch.from_numpy(logits).softmax(-1).numpy().astype(np.float32)
    order = np.argsort(-probs[:, :-1].max(1), kind="stable")
    return TileQueries(masks[order], probs[order], np.ones(masks.shape[1:], bool), boxes(masks[order] > 0))


def as_outputs(tile):
    """The same queries as the model's outputs."""
    logits = (torch.from_numpy(tile.masks).float() - LOGIT_ZERO) / LOGIT_UNIT
    return QueryMasks(logits[None], torch.from_numpy(tile.class_probs).log()[None], 1)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("stuff", [frozenset(), frozenset({0, 2})])
def test_fusion_equals_the_reference_on_the_cells(seed, stuff):
    """Same segments, same cells: the oracle is the fusion of full tiles, which equals transformers'."""
    tile = random_tile(seed)
    ours = fuse(tile, Rules(0.4, 0.5, 0.5, stuff=stuff))
    theirs = panoptic(as_outputs(tile), tile.valid.shape, stuff, 0.4, 0.5, 0.5)[0]
    np.testing.assert_array_equal(ours.labels, theirs.ids.numpy())
    assert ours.classes.tolist() == [segment.class_id for segment in theirs.segments]
    assert ours.areas.tolist() == [segment.area for segment in theirs.segments]


def test_instance_scores_equal_those_of_the_postprocessing():
    """Class probability times mean mask probability inside."""
    tile = random_tile(3)
    ours, _ = query_scores(tile, Rules(score_threshold=0, outlined=True))
    scored = with_instance_scores(as_outputs(tile)).class_logits[0].exp()[:, :-1].amax(-1).numpy()
    real = tile.class_probs.argmax(1) < CLASSES
    np.testing.assert_allclose(ours[real] / SURE, scored[real], atol=1 / SURE)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_outlines_are_looked_at_wherever_they_may_decide(threshold):
    """The same queries are above the threshold as if all outlines counted, with the same scores."""
    for seed in range(10):
        some, every = (query_scores(random_tile(seed), Rules(low, outlined=True))[0] for low in (threshold, 0))
        above = every > threshold * SURE
        np.testing.assert_array_equal(some > threshold * SURE, above)
        np.testing.assert_array_equal(some[above], every[above])


def test_cells_without_data_belong_to_nobody():
    """Whatever the queries say there."""
    tile = random_tile(0)
    valid = np.zeros_like(tile.valid)
    fused = fuse(TileQueries(tile.masks, tile.class_probs, valid, tile.boxes), Rules(0.1, 0.1))
    assert len(fused) == 0
    assert (fused.labels < 0).all()


def test_a_tile_without_queries_has_no_segments():
    """As over the open sea."""
    nothing = TileQueries(
        np.zeros((0, 4, 4), np.uint8), np.zeros((0, 3), np.float32), np.ones((4, 4), bool), np.zeros((0, 4), np.uint16)
    )
    assert len(fuse(nothing, Rules())) == 0


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.62, 0.9])
def test_the_least_code_is_the_first_that_reaches_a_threshold(threshold):
    """The code below it does not."""
    code = least_code(threshold)
    logits = (np.array([code - 1, code]) - LOGIT_ZERO) / LOGIT_UNIT
    below, above = 1 / (1 + np.exp(-logits))
    assert below < threshold <= above + 1e-9


def test_code_128_is_a_probability_of_one_half():
    """And code 0 is none at all."""
    assert probabilities()[[0, 128]].tolist() == [0, CERTAIN // 2]


def test_a_tile_with_nearly_all_queries_taken_is_saturated():
    """There may be more objects than the model can tell."""
    fused = fuse(random_tile(1), Rules(0.0, 0.0))
    assert fused.saturated(fused.taking_part)
    assert not fused.saturated(2 * fused.taking_part)
