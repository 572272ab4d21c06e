"""Instances: torchmetrics finds the same panoptic quality, a plain loop the same average precision."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics.detection import PanopticQuality

from pipeline.evaluate import Contingency, Detections, Quality, StrayLabel, average
from pipeline.evaluate.tally import Tally

VOID = 99
maps = arrays(np.int32, (6, 8), elements=st.integers(0, 4))
truths = arrays(np.int32, (6, 8), elements=st.sampled_from([0, 1, 2, 3, VOID]))


def counted(truth, predicted, ignore=VOID):
    """The contingency of two arrays."""
    contingency = Contingency(ignore)
    contingency.add(truth, predicted)
    return contingency


def blobs(seed, shape=(60, 60)):
    """Boxes with ids that may cover each other, void among them; and the same, moved a little, some of them lost."""
    random = np.random.default_rng(seed)
    truth, predicted = np.zeros(shape, int), np.zeros(shape, int)
    for id in range(1, 15):
        (row, col), (height, width) = random.integers(0, 50, 2), random.integers(4, 14, 2)
        truth[row : row + height, col : col + width] = id if id % 7 else VOID
        if id % 5:
            down, right = random.integers(0, 3, 2)
            predicted[row + down : row + down + height, col + right : col + right + width] = 100 - id
    return truth, predicted


def torchmetrics_quality(truth, predicted):
    """PQ, SQ and RQ of the one thing class; background is stuff, and void a class that nobody knows."""
    metric = PanopticQuality(things={1}, stuffs={0}, return_sq_and_rq=True, return_per_class=True)
    classes = np.where(truth == VOID, 7, truth > 0)
    pairs = (
        np.stack(pair, -1)[None] for pair in ((predicted > 0, predicted), (classes, np.where(truth == VOID, 0, truth)))
    )
    return metric(*(torch.tensor(pair.astype(int)) for pair in pairs))[0].tolist()


@given(truths, maps)
def test_torchmetrics_agrees_on_noise(truth, predicted):
    """Void among the truth; where there is no object at all we say so rather than 0."""
    scores = counted(truth, predicted).quality().scores
    assert np.nan_to_num(scores) == pytest.approx(torchmetrics_quality(truth, predicted))


@pytest.mark.parametrize("seed", range(5))
def test_torchmetrics_agrees_on_boxes(seed):
    """Of which some match, some are lost, and some lie in void."""
    truth, predicted = blobs(seed)
    scores = counted(truth, predicted).quality().scores
    assert 0 < scores.pq < 1
    assert scores == pytest.approx(torchmetrics_quality(truth, predicted))


@given(truths, maps, st.integers(0, 6), st.integers(0, 8))
def test_blocks_are_the_whole(truth, predicted, row, col):
    """Objects that lie in several blocks are one."""
    blocks = Contingency(VOID)
    for rows in (slice(0, row), slice(row, 6)):
        for cols in (slice(0, col), slice(col, 8)):
            blocks.add(truth[rows, cols], predicted[rows, cols])
    assert blocks.quality() == counted(truth, predicted).quality()


def test_more_pixels_after_a_look():
    """What was found before does not stay."""
    contingency = counted([1, 1], [1, 1])
    assert contingency.quality() == Quality(1, 0, 0, 1.0)
    contingency.add([2], [0])
    assert contingency.quality() == Quality(1, 0, 1, 1.0)


def test_half_is_no_match_for_quality_but_one_for_ap50():
    """PQ wants more than a half, for then an object has one match only; AP50 wants a half."""
    found = counted([1, 1, 0, 0], [5, 0, 0, 0])
    assert found.quality() == Quality(0, 1, 1, 0.0)
    assert found.detections().average_precision == 1


def test_an_object_mostly_in_void_is_no_fault():
    """Nor is it a find; half in void is not mostly."""
    assert counted([VOID, VOID, 0], [1, 1, 1]).quality() == Quality(0, 0, 0, 0.0)
    assert counted([VOID, 0], [1, 1]).quality() == Quality(0, 1, 0, 0.0)
    assert len(counted([VOID, VOID, 0], [1, 1, 1]).detections().scores) == 0


def test_without_objects_there_is_no_score():
    """An empty image that is seen to be empty."""
    assert np.isnan(counted([0, 0], [0, 0]).quality().scores).all()
    assert math.isnan(counted([0, 0], [0, 1]).detections().average_precision)


def test_pooled_and_averaged():
    """Pooled, every object counts the same; averaged, every image that has any."""
    one, two, empty = Quality(1, 0, 0, 1.0), Quality(0, 1, 2, 0.0), Quality(0, 0, 0, 0.0)
    assert (one + two + empty).scores.pq == pytest.approx(1 / 2.5)
    assert average([one, two, empty]) == (0.5, 0.5, 0.5)
    assert np.isnan(average([empty])).all()


@pytest.mark.parametrize("wrong", [-1, 2**32 - 1, 2**40])
def test_an_id_beyond_32_bits_is_refused(wrong):
    """With its value."""
    with pytest.raises(StrayLabel, match=str(wrong)):
        Contingency().add(np.array([0, wrong]), [0, 0])


def test_ids_of_32_bits_are_told_apart():
    """The largest ids that a mosaic may have."""
    ids = np.array([2**32 - 2, 2**32 - 3, 2**31], np.uint32)
    assert counted(ids, ids, None).quality() == Quality(3, 0, 0, 3.0)


def coco_ap50(images):
    """Average precision as COCO counts it, in loops over pixels; scores are all different."""
    hits, truths = [], 0
    for truth, predicted, scores in images:
        true_ids = [id for id in np.unique(truth) if id not in (0, VOID)]
        truths += len(true_ids)
        taken = set()
        for id in sorted(scores, key=lambda id: -scores[id]):
            mine = (predicted == id) & (truth != VOID)
            ious = {t: (mine & (truth == t)).sum() / (mine | (truth == t)).sum() for t in true_ids if t not in taken}
            best = max(ious, key=lambda t: ious[t], default=None)
            right = best is not None and ious[best] >= 0.5
            if right:
                taken.add(best)
            elif mine.sum() * 2 < (predicted == id).sum():
                continue
            hits.append((scores[id], right))
    right = np.cumsum([hit for _, hit in sorted(hits, reverse=True)])
    precision = [n / rank for rank, n in enumerate(right, 1)]
    reached = [[p for p, n in zip(precision, right, strict=True) if n * 100 >= k * truths] for k in range(101)]
    return np.mean([max(values, default=0) for values in reached])


def scored(predicted, seed):
    """Different scores for the ids of a map."""
    ids = [int(id) for id in np.unique(predicted) if id]
    return dict(zip(ids, np.random.default_rng(seed).permutation(len(ids)) + seed / 10, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_cocos(seed):
    """Over one image, and over two whose objects are pooled."""
    images = [(*pair, scored(pair[1], seed + n)) for n, pair in enumerate([blobs(seed), blobs(seed + 50)])]
    parts = [counted(truth, predicted).detections(scores) for truth, predicted, scores in images]
    assert 0 < parts[0].average_precision < 1
    assert parts[0].average_precision == pytest.approx(coco_ap50(images[:1]))
    assert (parts[0] + parts[1]).average_precision == pytest.approx(coco_ap50(images))


@given(truths, maps, st.integers(0, 9))
def test_average_precision_is_cocos_on_noise(truth, predicted, seed):
    """Wherever there is a true object: also where two true objects share one at exactly a half."""
    found, scores = counted(truth, predicted), scored(predicted, seed)
    ap50 = found.detections(scores).average_precision
    assert math.isnan(ap50) or ap50 == pytest.approx(coco_ap50([(truth, predicted, scores)]))


def test_equal_scores_have_no_order():
    """Three of four found, and one find that is wrong: precision 3/4 up to a recall of 3/4, then nothing."""
    right = np.array([True, True, False, True])
    for order in (right, right[::-1]):
        found = Detections(np.zeros(4), order, 4)
        assert found.average_precision == pytest.approx(0.75 * 76 / 101)


def test_a_good_score_for_a_wrong_find_costs():
    """The same finds, the wrong one first or last."""
    truth, predicted = [1, 1, 0, 0], [5, 5, 6, 6]
    assert counted(truth, predicted).detections({5: 0.9, 6: 0.1}).average_precision == 1
    assert counted(truth, predicted).detections({5: 0.1, 6: 0.9}).average_precision == 0.5


def test_a_tally_merges_what_it_has(monkeypatch):
    """However often it must: the sums are those of a dictionary."""
    monkeypatch.setattr("pipeline.evaluate.tally.PENDING", 10)
    tally, sums, random = Tally(), dict[int, int](), np.random.default_rng(0)
    for _ in range(30):
        keys, amounts = random.integers(0, 2**63, 40) // 2**59, random.integers(0, 1000, 40)
        tally.add(keys.astype(np.uint64), amounts)
        for key, amount in zip(keys.tolist(), amounts.tolist(), strict=True):
            sums[key] = sums.get(key, 0) + amount
    found = tally.items()
    assert dict(zip(*(part.tolist() for part in found), strict=True)) == sums
    assert (np.diff(found[0].astype(float)) > 0).all()
