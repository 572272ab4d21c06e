"""What a model is trained to make small.

Two ways to say which query answers for what. *Matched*: queries compete for the objects, and each object's truth is
held against the query that is assigned to it (the reference's loss). *Fixed*: each class has one query, for good; then
the mask logits of all queries are a classifier per pixel. On little data the fixed way learns several times faster.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from eomt_core.outputs import QueryMasks
from eomt_core.training.batch import IGNORE
from eomt_core.training.matching import Weights, match
from eomt_core.training.points import at_masks, known_at, sample, uncertain_places
from eomt_core.training.targets import Objects

NO_OBJECT = 0.1
"""The weight of "no object" in the class loss: most queries have none."""

REFERENCE = Weights()

AUX_WEIGHT_FIXED = 0.4
"""The weight of a prediction before the last blocks, where each class has its own query."""


def matched_loss(
    masks: QueryMasks,
    truth: Sequence[Objects],
    count: int,
    weights: Weights = REFERENCE,
    homes: Tensor | None = None,
) -> Tensor:
    """Loss of a batch whose queries compete, summed over the final prediction and those before the last blocks.

    Args:
        masks: of B crops.
        truth: of each.
        count: P, places per mask that are looked at.
        weights: of its parts.
        homes: places of the queries, see `match`.
    """
    predictions = (*(masks.aux or ()), masks)
    truth = [at_masks(objects, masks.mask_logits.shape[-2:], count) for objects in truth]
    return torch.stack([_matched(prediction, truth, count, weights, homes) for prediction in predictions]).sum()


def _matched(masks: QueryMasks, truth: Sequence[Objects], count: int, weights: Weights, homes: Tensor | None) -> Tensor:
    class_logits, mask_logits = masks.class_logits.float(), masks.mask_logits.float()
    pairs = [
        match(classes, logits, objects, count, weights, homes)
        for classes, logits, objects in zip(class_logits, mask_logits, truth, strict=True)
    ]
    loss = weights.class_ * _class_loss(class_logits, truth, pairs)
    logits = torch.cat([logits[queries] for logits, (queries, _) in zip(mask_logits, pairs, strict=True)])
    if not len(logits):
        return loss + logits.sum()  # of nothing: 0, and every parameter gets a gradient, if of 0
    wanted = torch.cat([objects.masks[indices] for objects, (_, indices) in zip(truth, pairs, strict=True)])
    entropy, dice = _mask_losses(logits, wanted, _known(truth, pairs), count)
    return loss + weights.mask * entropy + weights.dice * dice


def _known(truth: Sequence[Objects], pairs: Sequence[Tensor]) -> Tensor | None:
    """What is known of the crop of each of N assigned masks, (N, H, W); None where all is, as it mostly is."""
    if all(bool((objects.known == 1).all()) for objects in truth):  # a cell that is known in part is not
        return None
    return torch.cat([objects.known.expand(pair.shape[1], -1, -1) for objects, pair in zip(truth, pairs, strict=True)])


def _class_loss(class_logits: Tensor, truth: Sequence[Objects], pairs: Sequence[Tensor]) -> Tensor:
    """Cross-entropy of (B, Q, K + 1): the object's class for a matched query, "no object" for any other."""
    none = class_logits.shape[-1] - 1
    wanted = torch.full(class_logits.shape[:2], none, device=class_logits.device)
    for row, objects, (queries, indices) in zip(wanted, truth, pairs, strict=True):
        row[queries] = objects.classes[indices]
    weight = class_logits.new_ones(none + 1)
    weight[none] = NO_OBJECT
    return F.cross_entropy(class_logits.flatten(0, 1), wanted.flatten(), weight)


def _mask_losses(logits: Tensor, wanted: Tensor, known: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
    """Mean binary cross-entropy and 1 - Dice of N masks (N, h, w) against (N, H, W): in all cells or some places."""
    found, truth, counts = _seen_apart(logits, wanted, known, count)
    entropies = F.binary_cross_entropy_with_logits(found, truth, weight=counts, reduction="none").sum(1)
    probs, truth = found.sigmoid() * counts, truth * counts
    dices = 1 - (2 * (probs * truth).sum(1) + 1) / (probs.sum(1) + truth.sum(1) + 1)
    return (entropies / counts.sum(1).clamp(min=1)).mean(), dices.mean()


def _seen_apart(logits: Tensor, wanted: Tensor, known: Tensor | None, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, truth and what of it is known, each (N, P): where each mask is uncertain, or in all of its cells."""
    if logits.shape == wanted.shape and wanted[0].numel() <= count:
        counts = torch.ones_like(wanted) if known is None else (known == 1).float()
        return logits.flatten(1), wanted.flatten(1), counts.flatten(1)
    with torch.no_grad():
        places = uncertain_places(logits, wanted, count, known)
        truth = sample(wanted[:, None], places)[:, 0]
        counts = torch.ones_like(truth) if known is None else known_at(known, places)
    return sample(logits[:, None], places)[:, 0], truth, counts


def fixed_loss(masks: QueryMasks, labels: Tensor) -> Tensor:
    """Loss of a batch whose classes have one query each: of the final prediction, and a part of those before it.

    Logits are compared at half their stride (at their own, where that is odd), each with one pixel of its cell: finer
    costs time and changes nothing. Which pixel is drawn: always the first would move every edge by half a cell.

    Args:
        masks: of B crops, with Q = K.
        labels: (B, H, W) int64, `IGNORE` where not known.
    """
    step = masks.stride if masks.stride % 2 else masks.stride // 2
    row, col = torch.randint(step, (2,)).tolist()
    labels = labels[:, row::step, col::step]
    loss = _fixed(masks, labels)
    return loss + sum(AUX_WEIGHT_FIXED * _fixed(aux, labels) for aux in masks.aux or ())


def _fixed(masks: QueryMasks, labels: Tensor) -> Tensor:
    """Cross-entropy over the queries, binary cross-entropy of each, Dice, and the queries' classes.

    The binary term is there because inference adds up sigmoids: alone, the softmax would leave open where they
    saturate.
    """
    size = (labels.shape[1], labels.shape[2])
    logits = F.interpolate(masks.mask_logits.float(), size=size, mode="bilinear", align_corners=False)
    known = labels != IGNORE
    count = known.sum().clamp(min=1)
    entropy = F.cross_entropy(logits, labels, ignore_index=IGNORE)
    truth = F.one_hot(labels.clamp(min=0), logits.shape[1]).movedim(-1, 1) * known[:, None]
    binaries = F.binary_cross_entropy_with_logits(logits, truth.float(), reduction="none")
    binary = (binaries * known[:, None]).sum() / count
    dice = _pooled_dice(logits.softmax(1) * known[:, None], truth)
    queries = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
    classes = F.cross_entropy(masks.class_logits.float().flatten(0, 1), queries.flatten())
    return entropy.nan_to_num(0.0) + binary / 2 + dice + classes


def _pooled_dice(probs: Tensor, truth: Tensor) -> Tensor:
    """1 - Dice of (B, K, h, w), over the whole batch and the mean of the classes that it holds."""
    axes = (0, 2, 3)
    overlap, total = (probs * truth).sum(axes), probs.sum(axes) + truth.sum(axes)
    present = truth.sum(axes) > 0
    return (1 - (2 * overlap + 1) / (total + 1))[present].mean() if present.any() else 0 * probs.sum()
