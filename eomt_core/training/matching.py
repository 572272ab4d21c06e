"""Which query answers for which object: the assignment of least cost (Carion et al., DETR, ECCV 2020)."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from eomt_core.training.points import seen_together
from eomt_core.training.targets import Objects

STEEP = 20.0
"""A logit above which log(1 + exp(x)) is x in float32."""


class Weights(NamedTuple):
    """How much each part of the loss, and of the cost of an assignment, counts; the reference's."""

    class_: float = 2.0
    mask: float = 5.0
    dice: float = 5.0


@torch.no_grad()
def match(
    class_logits: Tensor,
    mask_logits: Tensor,
    objects: Objects,
    count: int,
    weights: Weights,
    homes: Tensor | None = None,
) -> Tensor:
    """Assign the n objects of one crop to queries.

    Args:
        class_logits: (Q, K + 1).
        mask_logits: (Q, h, w).
        objects: the truth; where there are more objects than queries some stay without.
        count: P, places that masks are compared at; smaller masks are compared as a whole.
        weights: of the parts of the cost.
        homes: (Q, 2) places of the queries, see `homes_of`; None: a query may answer for any place.

    Returns:
        (2, min(n, Q)) int64, queries and their objects.
    """
    if not len(objects.classes):
        return torch.zeros(2, 0, dtype=torch.int64, device=mask_logits.device)
    logits, truth, known = seen_together(mask_logits, objects, count)
    cost = -weights.class_ * class_logits.softmax(-1)[:, objects.classes]
    cost = cost + weights.mask * _cross_entropies(logits, truth, known) + weights.dice * _dices(logits, truth, known)
    if homes is not None:
        cost = cost + torch.cdist(homes, centres(objects.masks)) * len(homes) ** 0.5
    # Logits that overflowed must not stop a training: such a pair is merely a bad one.
    found = linear_sum_assignment(cost.nan_to_num(1e4, 1e4, 1e4).cpu().numpy())
    return torch.from_numpy(np.stack(found)).to(mask_logits.device)


def homes_of(queries: int, device: torch.device) -> Tensor | None:
    """Places (Q, 2) of queries on a square grid over a tile, x and y in 0..1, row by row.

    Queries that are no square number have no homes, None: nor did they start from places, so there are none to keep
    to, and they compete for all of the tile.

    That a query answers for what lies near its own place keeps the assignment from changing at every step, which is
    what makes the matching of many look-alike objects slow to learn. The distance counts in steps of the grid. It plays
    a part in training only.
    """
    side = round(queries**0.5)
    if side * side != queries:
        return None
    steps = (torch.arange(side, device=device) + 0.5) / side
    rows, cols = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([cols, rows], -1).reshape(-1, 2)


def centres(masks: Tensor) -> Tensor:
    """Centres (n, 2) of masks (n, H, W), x and y in 0..1."""
    area = masks.sum((1, 2)).clamp(min=1)
    found = [
        masks.sum(axis) @ (torch.arange(length, device=masks.device) + 0.5) / area / length
        for axis, length in ((1, masks.shape[2]), (2, masks.shape[1]))
    ]
    return torch.stack(found, 1)


def _cross_entropies(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Mean binary cross-entropy of every query (Q, P) against every object (n, P): (Q, n)."""
    # -log(sigmoid(x)) is softplus(x) - x: one softplus, which costs the most here, serves both sides.
    summed = (_softplus(logits) * known).sum(1)[:, None] - (logits * known) @ truth.T
    return summed / known.sum().clamp(min=1)


def _softplus(logits: Tensor) -> Tensor:
    """log(1 + exp(x)), by a sigmoid and a logarithm: on a CPU several times faster than the function of that name."""
    return (logits - STEEP).clamp(min=0) - (-logits.clamp(max=STEEP)).sigmoid().log()


def _dices(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """1 - Dice of every query (Q, P) against every object (n, P): (Q, n)."""
    probs, truth = logits.sigmoid() * known, truth * known
    return 1 - (2 * probs @ truth.T + 1) / (probs.sum(1)[:, None] + truth.sum(1)[None] + 1)
