"""The queries of several views of a tile become one set."""

import pytest
import torch

from eomt_core.merging import merge_queries
from eomt_core.outputs import QueryMasks

SIDE = 8


def square(row, col, size=3):
    """Sure logits of a square of cells."""
    mask = torch.full((SIDE, SIDE), -6.0)
    mask[row : row + size, col : col + size] = 6
    return mask


def view(*queries, count=4):
    """One tile's answer: masks with the probabilities of two classes each; the rest of `count` are no objects."""
    masks = torch.full((1, count, SIDE, SIDE), -6.0)
    probs = torch.tensor([[[0.0, 0.0, 1.0]]]).repeat(1, count, 1)
    for place, (mask, *classes) in enumerate(queries):
        masks[0, place], probs[0, place] = mask, torch.tensor([*classes, 1 - sum(classes)])
    return QueryMasks(masks, (probs + 1e-12).log(), 4)


def merged(*views):
    """Masks and probabilities of the tile's queries."""
    found = merge_queries(views)
    return found.mask_logits[0], found.class_logits[0].softmax(-1)


A, B, C = square(0, 0), square(0, 4), square(4, 4)


def test_queries_are_matched_whatever_their_order():
    """The surest comes first, and what has no query is no object."""
    masks, probs = merged(view((A, 0.8, 0.0), (B, 0.0, 0.9)), view((B, 0.0, 0.7), (A, 0.8, 0.1)))
    assert torch.equal(masks[:2], torch.stack([A, B]))
    torch.testing.assert_close(probs[:2], torch.tensor([[0.8, 0.05, 0.15], [0.0, 0.8, 0.2]]))
    torch.testing.assert_close(probs[2:, -1], torch.ones(2))


def test_mask_logits_are_averaged():
    """Over the views that have the query."""
    masks, _ = merged(view((A, 0.9, 0)), view((A / 2, 0.9, 0)), view((B, 0.9, 0)))
    torch.testing.assert_close(masks[0], A * 0.75)


def test_a_view_without_the_query_says_no_object():
    """Seen by one of four, it keeps a quarter of its probability, whichever view it is."""
    for place in range(4):
        views = [view((B, 0.8, 0.1))] * 4
        views[place] = view((B, 0.8, 0.1), (C, 0.0, 0.8))
        _, probs = merged(*views)
        torch.testing.assert_close(probs[:2], torch.tensor([[0.8, 0.1, 0.1], [0.0, 0.2, 0.8]]))


def test_a_query_that_the_first_view_misses_is_one_of_the_others():
    """Not one for each of them."""
    _, probs = merged(view((A, 0.9, 0.0)), view((B, 0.6, 0.0)), view((B, 0.6, 0.0)))
    torch.testing.assert_close(probs[:3, 0], torch.tensor([0.4, 0.3, 0.0]), atol=1e-6, rtol=0)


def test_a_sure_query_is_not_matched_with_a_faint_one_of_the_same_place():
    """Models say the same thing twice, the second time in doubt."""
    _, probs = merged(view((A, 0.9, 0.0), (A, 0.1, 0.0)), view((A, 0.1, 0.0), (A, 0.9, 0.0)))
    torch.testing.assert_close(probs[:2, 0], torch.tensor([0.9, 0.1]))


@pytest.mark.parametrize("other", [(B, 0.9, 0.0), (A, 0.0, 0.9)])
def test_another_place_or_another_class_is_another_query(other):
    """Each is missed by half of the views."""
    _, probs = merged(view((A, 0.9, 0.0)), view(other))
    torch.testing.assert_close(probs[:2, :2].sum(1), torch.tensor([0.45, 0.45]))


def test_the_surest_are_left_when_views_have_more_queries_than_a_tile_may():
    """By the mean of all views."""
    first, second = view((A, 0.9, 0.0), (B, 0.3, 0.0), count=2), view((A, 0.9, 0.0), (C, 0.7, 0.0), count=2)
    masks, probs = merged(first, second)
    assert torch.equal(masks, torch.stack([A, C]))
    torch.testing.assert_close(probs[:, 0], torch.tensor([0.9, 0.35]))


def test_tiles_of_a_batch_do_not_mix():
    """Each is merged by itself."""
    one, two = view((A, 0.9, 0.0)), view((B, 0.0, 0.7))
    both = QueryMasks(*(torch.cat(parts) for parts in zip(one[:2], two[:2], strict=True)), 4)
    found = merge_queries([both, both])
    assert torch.equal(found.mask_logits[:, 0], torch.stack([A, B]))


def test_views_that_say_nothing_become_nothing():
    """As over the open sea."""
    masks, probs = merged(view(), view())
    assert masks.shape == (4, SIDE, SIDE)
    torch.testing.assert_close(probs[:, -1], torch.ones(4))
