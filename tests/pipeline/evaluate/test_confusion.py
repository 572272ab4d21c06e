"""Confusion: torchmetrics and scikit-learn find the same scores, and pixels may come in any parts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import confusion_matrix, jaccard_score
from torchmetrics import Accuracy, JaccardIndex

from pipeline.evaluate import Confusion, StrayLabel

K, UNLABELLED, NODATA = 5, 254, 255
truths = arrays(np.uint8, 60, elements=st.sampled_from([0, 1, 2, 4, 255]))  # class 3 is nowhere in the truth
answers = arrays(np.uint8, 60, elements=st.sampled_from([0, 1, 2, 3, UNLABELLED, NODATA]))


def noise(seed, shape=(40, 50)):
    """Truth with 255 to ignore, and a prediction that is often right and has every class but one."""
    random = np.random.default_rng(seed)
    truth = random.choice([0, 1, 2, 255], shape).astype(np.uint8)
    return truth, np.where((random.random(shape) < 0.6) & (truth != 255), truth, random.integers(0, K - 1, shape))


def counted(truth, predicted, ignore=255):
    """The confusion of two arrays."""
    confusion = Confusion(K, ignore)
    confusion.add(truth, predicted)
    return confusion


@pytest.mark.parametrize("seed", range(3))
def test_torchmetrics_agrees(seed):
    """IoU of each class, its mean over the classes that occur, and accuracy, with pixels to ignore."""
    truth, predicted = noise(seed)
    found = counted(truth, predicted)
    tensors = torch.tensor(predicted.astype(int)), torch.tensor(truth.astype(int))
    ious = JaccardIndex("multiclass", num_classes=K, ignore_index=255, average="none")(*tensors)
    assert np.nan_to_num(found.iou) == pytest.approx(ious.numpy())
    assert found.miou == pytest.approx(float(JaccardIndex("multiclass", num_classes=K, ignore_index=255)(*tensors)))
    accuracy = Accuracy("multiclass", num_classes=K, ignore_index=255, average="micro")(*tensors)
    assert found.accuracy == pytest.approx(float(accuracy))


@given(truths, answers)
def test_scikit_learn_agrees(truth, predicted):
    """Counts and IoU, where unlabelled is a class that no truth has."""
    found, kept = counted(truth, predicted), (truth != 255) & (predicted != NODATA)
    column = np.where(predicted == UNLABELLED, K, predicted)
    ids = range(K + 1)
    if kept.any():
        matrix = confusion_matrix(truth[kept], column[kept], labels=ids)
        assert (found.matrix == matrix[:K]).all()
        scores = jaccard_score(truth[kept], column[kept], labels=range(K), average=None, zero_division=0)
        assert np.nan_to_num(found.iou) == pytest.approx(scores)
    assert found.pixels + found.ignored + found.nodata == truth.size


@given(truths, answers, st.integers(0, 60))
def test_parts_are_the_whole(truth, predicted, cut):
    """Added one after the other, or apart and then together."""
    one = counted(truth[:cut], predicted[:cut])
    both = one + counted(truth[cut:], predicted[cut:])
    one.add(truth[cut:], predicted[cut:])
    whole = counted(truth, predicted)
    for found in (one, both):
        assert (found.matrix == whole.matrix).all()
        assert (found.ignored, found.nodata) == (whole.ignored, whole.nodata)


def test_unlabelled_is_a_miss_and_nobodys_false_find():
    """Half of class 0 is found and nothing else: recall and IoU are a half, precision is 1."""
    found = counted([0, 0, 0, 0], [0, 0, UNLABELLED, UNLABELLED])
    assert tuple(found.per_class[0]) == (0.5, 0.5, 1.0, 1.0)
    assert (found.unlabelled, found.accuracy) == (2, 0.5)


def test_nodata_is_left_out_and_counted():
    """Of two pixels with a true class, one can be compared; one that is ignored is not counted twice."""
    found = counted([1, 1, 255], [1, NODATA, NODATA])
    assert (found.pixels, found.nodata, found.ignored, found.miou) == (1, 1, 1, 1.0)


def test_classes_that_are_nowhere_do_not_count():
    """They are named, and the mean is that of the others: a class that is predicted only has an IoU of 0."""
    found = counted([0, 0], [0, 2])
    assert found.absent == (1, 3, 4)
    assert found.miou == 0.25


def test_nothing_to_compare_gives_no_number():
    """Rather than 0, which would be a bad score."""
    found = counted([255], [0])
    assert np.isnan([found.miou, found.accuracy]).all()
    assert found.absent == tuple(range(K))


def test_a_class_may_be_ignored():
    """Zero as the value of no label."""
    assert counted([0, 1], [1, 1], ignore=0).miou == 1


def test_a_label_that_is_no_class_is_refused():
    """With its value and place, and nothing is counted."""
    confusion = Confusion(K)
    with pytest.raises(StrayLabel, match="truth: 7") as caught:
        confusion.add([[0, 1], [7, 9]], [[0, 1], [1, 1]])
    assert (caught.value.value, caught.value.index, confusion.pixels) == (7, (1, 0), 0)
    with pytest.raises(StrayLabel, match="prediction: 99") as caught:
        confusion.add([0], [99])
    assert caught.value.of_prediction


def test_many_classes_have_wide_codes():
    """Beyond 254 classes 254 and 255 are classes themselves."""
    confusion = Confusion(300)
    confusion.add([254, 255, 299, 1], np.array([254, 255, 65534, 65535], np.uint16))
    assert (confusion.miou, confusion.unlabelled, confusion.nodata) == (pytest.approx(2 / 3), 1, 1)
