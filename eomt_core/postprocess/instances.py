"""Instances: the best pairs of query and class, each with a mask of its own."""

from typing import NamedTuple

import torch
from torch import Tensor

from eomt_core.outputs import QueryMasks
from eomt_core.postprocess.scores import class_probs
from eomt_core.postprocess.strips import enlarged_strips


class Instances(NamedTuple):
    """The instances of one image, best score first. They may overlap, and a query may appear with several classes.

    Attributes:
        queries: (N,) int64, the query that each is made from.
        classes: (N,) int64.
        scores: (N,) float32, class probability times the mean mask probability inside the mask; 0 for an empty mask.
        areas: (N,) int64, pixels.
        masks: (N, H, W) bool.
    """

    queries: Tensor
    classes: Tensor
    scores: Tensor
    areas: Tensor
    masks: Tensor


@torch.no_grad()
def instance(masks: QueryMasks, size: tuple[int, int], top_k: int = 100) -> list[Instances]:
    """Choose the ``top_k`` pairs of query and class with the highest class probability; enlarge their queries alone.

    Args:
        masks: Queries of B tiles.
        size: H and W of the tiles in pixels.
        top_k: How many instances an image gets; there is no threshold.

    Returns:
        min(top_k, Q * K) instances per image.

    Raises:
        ValueError: When ``top_k`` is below 1.
    """
    if top_k < 1:
        raise ValueError(f"top_k: got {top_k}; ask for at least one instance")
    images = zip(masks.mask_logits, class_probs(masks), strict=True)
    return [_best_pairs(logits, probs, size, top_k) for logits, probs in images]


@torch.no_grad()
def with_instance_scores(masks: QueryMasks) -> QueryMasks:
    """Let the class logits say what an instance scores: its class probability times the mean mask probability inside.

    A query that is sure of its class and not of its outline is mostly the rest of an object that another one holds.
    What is taken from the classes goes to "no object".
    """
    probs, inside = class_probs(masks), masks.mask_logits > 0
    mean = (masks.mask_logits.float().sigmoid() * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)
    scores = probs * mean[..., None]
    none = 1 - scores.sum(-1, keepdim=True)
    return masks._replace(class_logits=torch.cat([scores, none], -1).clamp(min=torch.finfo(torch.float32).tiny).log())


def paint(instances: Instances, score_threshold: float = 0.0) -> Tensor:
    """Draw the instances that score above a threshold into one map, the better over the worse.

    Returns:
        (H, W) int32, index into ``instances``; -1 where there is none.
    """
    ids = instances.masks.new_full(instances.masks.shape[1:], -1, dtype=torch.int32)
    for index in reversed(range(int((instances.scores > score_threshold).sum()))):
        ids.masked_fill_(instances.masks[index], index)
    return ids


def _best_pairs(mask_logits: Tensor, probs: Tensor, size: tuple[int, int], top_k: int) -> Instances:
    """Make the instances of one image from (Q, h, w) logits and (Q, K) class probabilities."""
    # Stable sorts, because topk breaks ties differently from device to device.
    pair_probs, pairs = (part[:top_k] for part in probs.flatten().sort(descending=True, stable=True))
    queries, classes = pairs // probs.shape[1], pairs % probs.shape[1]
    drawn, drawing = queries.unique(return_inverse=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    masks, areas, mean_probs = _outline(mask_logits[drawn], size)
    scores, order = (pair_probs * mean_probs[drawing]).sort(descending=True, stable=True)
    drawing = drawing[order]
    return Instances(queries[order], classes[order], scores, areas[drawing], masks[drawing])


def _outline(mask_logits: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Masks (n, H, W) where the enlarged logits are positive, their areas (n,), mean probabilities inside them (n,)."""
    n, device = len(mask_logits), mask_logits.device
    masks = torch.empty((n, *size), dtype=torch.bool, device=device)
    areas, mass = torch.zeros(n, dtype=torch.int64, device=device), torch.zeros(n, device=device)
    for rows, logits in enlarged_strips(mask_logits[None], size):
        inside = logits[0] > 0
        masks[:, rows.start : rows.stop] = inside.permute(2, 0, 1)
        areas += inside.sum((0, 1))
        mass += (logits[0].sigmoid() * inside).sum((0, 1))
    return masks, areas, mass / areas.clamp(min=1)
