"""One set of queries from what a model says of several views of a tile.

Queries have no order that two views share, so they are matched by what they say: where, and of which class. A view that
has no match for a query says "no object" to it.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from eomt_core.outputs import KEEP, QueryMasks

ALIKE = 0.3
"""IoU of masks times cosine of class probabilities from which two queries mean the same."""

NEVER = -100.0
"""The mask logit of queries that are not there."""


class _Sums(NamedTuple):
    """What the queries of one tile add up to, over the views so far.

    Attributes:
        masks: (n, h, w) logits.
        probs: (n, K + 1), of the classes and "no object".
        votes: (n,), the views that have the query.
    """

    masks: Tensor
    probs: Tensor
    votes: Tensor


def merge_queries(views: Iterable[QueryMasks]) -> QueryMasks:
    """Merge what a model says of the views of a batch of tiles, undone: one set of as many queries, the surest first.

    Masks are the mean logits of the views that have the query, classes the mean probabilities of all views. These are
    taken one after the other, so that not all are in memory at a time.
    """
    sums: list[_Sums] = []
    for count, view in enumerate(views, 1):
        found = [_sums(view, tile) for tile in range(len(view.mask_logits))]
        sums = [_add(*pair) for pair in zip(sums, found, strict=True)] if sums else found
        queries, stride, seen = view.mask_logits.shape[1], view.stride, count
    masks, logits = zip(*(_queries(tile, seen, queries) for tile in sums), strict=True)
    return QueryMasks(torch.stack(masks), torch.stack(logits), stride)


def _sums(view: QueryMasks, tile: int) -> _Sums:
    """The queries of one view that say anything."""
    probs = view.class_logits[tile].float().softmax(-1)
    some = probs[:, :-1].amax(-1) >= KEEP
    return _Sums(view.mask_logits[tile, some].float(), probs[some], probs.new_ones(int(some.sum())))


def _add(known: _Sums, view: _Sums) -> _Sums:
    """Add the queries of one more view to those that they match, and append the others."""
    ours, theirs = _match(known, view)
    new = torch.ones(len(view.votes), dtype=torch.bool, device=view.votes.device)
    new[theirs] = False
    return _Sums(
        *(torch.cat([old.index_add(0, ours, more[theirs]), more[new]]) for old, more in zip(known, view, strict=True))
    )


def _match(known: _Sums, view: _Sums) -> tuple[Tensor, Tensor]:
    """Places of queries that mean the same, one to one."""
    one, two = ((sums.masks > 0).flatten(1).float() for sums in (known, view))
    common = one @ two.T
    iou = common / (one.sum(1)[:, None] + two.sum(1) - common).clamp(min=1)
    first, second = (sums.probs[:, :-1] / sums.votes[:, None] for sums in (known, view))
    # The most that is sure on both sides: a sure query must not be matched with another's faint duplicate.
    rows, cols = linear_sum_assignment((iou * (first @ second.T)).cpu().numpy(), maximize=True)
    ours, theirs = (torch.from_numpy(places).to(iou.device) for places in (rows, cols))
    alike = (iou * (F.normalize(first, dim=1) @ F.normalize(second, dim=1).T))[ours, theirs] >= ALIKE
    return ours[alike], theirs[alike]


def _queries(sums: _Sums, views: int, count: int) -> tuple[Tensor, Tensor]:
    """Mask logits (Q, h, w) and class logits (Q, K + 1) of the surest queries; what is missing of Q is no object."""
    probs = sums.probs / views
    probs[:, -1] += 1 - sums.votes / views
    best = probs[:, :-1].amax(-1).argsort(descending=True, stable=True)[:count]
    spare = count - len(best)
    masks = F.pad(sums.masks[best] / sums.votes[best, None, None], (0, 0, 0, 0, 0, spare), value=NEVER)
    padded = F.pad(probs[best], (0, 0, 0, spare))
    padded[len(best) :, -1] = 1
    # The softmax of log-probabilities is the probabilities.
    return masks, padded.clamp(min=torch.finfo(torch.float32).tiny).log()
