"""The assignment of objects to queries costs the least."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt_core.training.matching import Weights, centres, homes_of, match
from eomt_core.training.points import seen_together
from eomt_core.training.targets import Objects

FEW, ALL = 50, 64
"""Places: fewer than a mask of 8 x 8 has cells, and as many."""


def make_case(queries: int, objects: int, seed: int = 0, size: int = 8) -> tuple[Tensor, Tensor, Objects]:
    """Logits (8, 8) of queries for 3 classes and "no object", and objects that are random rectangles."""
    draw = torch.Generator().manual_seed(seed)
    masks = torch.zeros(objects, size, size)
    for mask in masks:
        top, left = torch.randint(0, size // 2, (2,), generator=draw).tolist()
        mask[top : top + size // 3, left : left + size // 4] = 1
    classes = torch.randint(0, 3, (objects,), generator=draw)
    class_logits, mask_logits = torch.randn(queries, 4, generator=draw), 3 * torch.randn(queries, 8, 8, generator=draw)
    return class_logits, mask_logits, Objects(masks, classes, torch.ones(size, size))


def assign(class_logits: Tensor, mask_logits: Tensor, objects: Objects, count: int = ALL) -> list[list[int]]:
    """Queries and their objects; what is drawn is always the same."""
    torch.manual_seed(5)
    return match(class_logits, mask_logits, objects, count, Weights()).tolist()


def costs(class_logits: Tensor, mask_logits: Tensor, objects: Objects, count: int) -> NDArray[np.float64]:
    """The cost of every pair, written out: 2 class, 5 cross-entropy, 5 Dice in the same places."""
    torch.manual_seed(5)
    logits, truth, _ = (part.double().numpy() for part in seen_together(mask_logits, objects, count))
    probs, classes = 1 / (1 + np.exp(-logits)), class_logits.double().softmax(-1).numpy()
    table = np.zeros((len(logits), len(truth)))
    for query, object_ in np.ndindex(table.shape):
        p, t = probs[query], truth[object_]
        entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
        dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
        table[query, object_] = 5 * entropy + 5 * dice - 2 * classes[query, objects.classes[object_]]
    return table


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [FEW, ALL])
def test_no_assignment_is_cheaper(seed: int, count: int) -> None:
    """Of all ways to give 3 objects to 5 queries it is the best."""
    case = make_case(5, 3, seed)
    table = costs(*case, count)
    best = min(permutations(range(5), 3), key=lambda queries: sum(table[list(queries), range(3)]))
    assert sorted(zip(*assign(*case, count), strict=True)) == sorted(zip(best, range(3), strict=True))


@pytest.mark.parametrize(("queries", "objects"), [(9, 4), (4, 4), (3, 7)])
def test_assignments_are_those_of_mask2former(mask2former: Any, queries: int, objects: int) -> None:
    """Where both look at every pixel, the reference's matcher finds the same pairs."""
    class_logits, mask_logits, truth = make_case(queries, objects)
    matcher = mask2former.Mask2FormerHungarianMatcher(2.0, 5.0, 5.0, ALL)
    ((rows, columns),) = matcher(mask_logits[None], class_logits[None], [truth.masks], [truth.classes])
    assert assign(class_logits, mask_logits, truth) == [rows.tolist(), columns.tolist()]


def test_more_objects_than_queries() -> None:
    """Every query gets one object, and some objects get none."""
    queries, objects = assign(*make_case(3, 7))
    assert queries == [0, 1, 2]
    assert len(set(objects)) == 3


@pytest.mark.parametrize("count", [FEW, ALL])
def test_no_objects(count: int) -> None:
    """Where there is nothing, nothing is assigned."""
    assert assign(*make_case(3, 0), count) == [[], []]


def test_names_of_queries_and_objects_mean_nothing() -> None:
    """In another order the same ones find each other."""
    class_logits, mask_logits, objects = make_case(6, 4)
    pairs = set(zip(*assign(class_logits, mask_logits, objects), strict=True))
    order, turn = torch.tensor([4, 2, 0, 5, 1, 3]), torch.tensor([2, 0, 3, 1])
    turned = objects._replace(masks=objects.masks[turn], classes=objects.classes[turn])
    found = zip(*assign(class_logits[order], mask_logits[order], turned), strict=True)
    assert {(int(order[query]), int(turn[object_])) for query, object_ in found} == pairs


@pytest.mark.parametrize("count", [FEW, ALL])
def test_unknown_pixels_decide_nothing(count: int) -> None:
    """Whatever queries claim where the truth is not known, the assignment is the same."""
    class_logits, mask_logits, objects = make_case(6, 4)
    objects.known[:, 4:] = 0
    objects.masks.mul_(objects.known)
    before = assign(class_logits, mask_logits, objects, count)
    mask_logits[:, :, 5:] = 20 * torch.randn(6, 8, 3, generator=torch.Generator().manual_seed(9))
    assert assign(class_logits, mask_logits, objects, count) == before


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_overflowed_are_the_last_choice(broken: float) -> None:
    """A query without numbers stops nothing, and gets an object only when there is no other."""
    class_logits, mask_logits, objects = make_case(5, 4)
    mask_logits[2] = broken
    assert assign(class_logits, mask_logits, objects)[0] == [0, 1, 3, 4]


def test_homes_are_a_grid_row_by_row() -> None:
    """Four queries are at home in the middles of the quarters, x before y."""
    homes = homes_of(4, torch.device("cpu"))
    assert homes is not None
    assert homes.tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


@pytest.mark.parametrize("queries", [3, 5, 99, 101])
def test_queries_that_fill_no_grid_have_no_homes(queries: int) -> None:
    """So many do not start from places either."""
    assert homes_of(queries, torch.device("cpu")) is None


def test_centres_are_in_the_middle_of_masks() -> None:
    """Rows 0 to 3 and columns 4 to 7 of 8 x 16 pixels have their centre at x = 6 / 16 and y = 2 / 8."""
    mask = torch.zeros(1, 8, 16)
    mask[:, :4, 4:8] = 1
    assert centres(mask).tolist() == [[6 / 16, 2 / 8]]


def test_queries_that_say_the_same_answer_for_what_is_near() -> None:
    """Where logits do not tell queries apart, each object goes to the one that is at home there."""
    masks = torch.zeros(3, 16, 16)
    for mask, (row, col) in zip(masks, ((2, 10), (10, 2), (11, 11)), strict=True):
        mask[row : row + 4, col : col + 4] = 1
    objects = Objects(masks, torch.zeros(3, dtype=torch.int64), torch.ones(16, 16))
    homes = homes_of(4, torch.device("cpu"))
    found = match(torch.zeros(4, 2), torch.zeros(4, 8, 8), objects, ALL, Weights(), homes)
    assert found.tolist() == [[1, 2, 3], [0, 1, 2]]
