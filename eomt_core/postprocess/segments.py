"""Panoptic segments: each pixel belongs to one query at most."""

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from eomt_core.errors import ModelError
from eomt_core.outputs import QueryMasks
from eomt_core.postprocess.strips import enlarged_strips


class Segment(NamedTuple):
    """A region of a panoptic map: its number in ``Panoptic.ids``, class, class score (0..1), area in pixels."""

    id: int
    class_id: int
    score: float
    area: int


class Panoptic(NamedTuple):
    """The panoptic map of one image.

    Attributes:
        ids: (H, W) int32, index into ``segments``; -1 where no query is accepted.
        segments: In the order of their queries. A stuff class has one at most, with the score of its best query.
    """

    ids: Tensor
    segments: tuple[Segment, ...]


@torch.no_grad()
def panoptic(
    masks: QueryMasks,
    size: tuple[int, int],
    stuff: Collection[int],
    score_threshold: float = 0.8,
    overlap_threshold: float = 0.8,
    mask_threshold: float = 0.5,
) -> list[Panoptic]:
    """Give each pixel to the query of highest score * mask probability, and keep the queries that hold their ground.

    Args:
        masks: Queries of B tiles.
        size: H and W of the tiles in pixels.
        stuff: Classes whose queries share one segment.
        score_threshold: A query takes part when its best class is a real one and scores above this.
        overlap_threshold: A query is accepted when it wins at least this share of the area that its mask claims.
        mask_threshold: A mask claims the pixels where its probability is at least this.

    Returns:
        One map per image.

    Raises:
        ModelError: When ``stuff`` names a class that the model does not have.
    """
    none = masks.class_logits.shape[-1] - 1
    if unknown := sorted(set(stuff) - set(range(none))):
        raise ModelError(f"stuff: the model has classes 0..{none - 1}, got {unknown}; give stuff classes of this model")
    scores, classes = masks.class_logits.float().softmax(-1).max(-1)
    keep = (classes != none) & (scores > score_threshold)
    results = []
    for logits, score, class_, kept in zip(masks.mask_logits, scores, classes, keep, strict=True):
        contest = _contest(logits[kept], score[kept], size, mask_threshold)
        results.append(_number(contest, class_[kept].tolist(), score[kept].tolist(), stuff, overlap_threshold))
    return results


class _Contest(NamedTuple):
    """Which of n queries holds each pixel of an image.

    Attributes:
        owner: (H, W) int64, the query that wins the pixel, where its mask also claims it; else n.
        won: (n,) int64 on the CPU, pixels that the query wins.
        claimed: (n,) int64 on the CPU, pixels that its mask claims.
        owned: (n,) int64 on the CPU, pixels that it both wins and claims.
    """

    owner: Tensor
    won: Tensor
    claimed: Tensor
    owned: Tensor


def _contest(mask_logits: Tensor, scores: Tensor, size: tuple[int, int], mask_threshold: float) -> _Contest:
    """Let n queries with (n, h, w) logits and (n,) scores compete for the pixels."""
    n = len(scores)
    if n == 0:
        nothing = torch.zeros(0, dtype=torch.int64)
        return _Contest(torch.zeros(size, dtype=torch.int64, device=scores.device), nothing, nothing, nothing)
    owner = torch.empty(size, dtype=torch.int64, device=scores.device)
    won, claimed = torch.zeros(2, n, dtype=torch.int64, device=scores.device)
    for rows, logits in enlarged_strips(mask_logits[None], size):
        probs = logits[0].sigmoid_()
        claims = probs >= mask_threshold
        best = (probs * scores).argmax(-1, keepdim=True)
        owner[rows.start : rows.stop] = torch.where(claims.gather(-1, best), best, n)[..., 0]
        won += torch.bincount(best.flatten(), minlength=n)
        claimed += claims.sum((0, 1))
    owned = torch.bincount(owner.flatten(), minlength=n + 1)[:n]
    return _Contest(owner, won.cpu(), claimed.cpu(), owned.cpu())


def _number(
    contest: _Contest, classes: list[int], scores: list[float], stuff: Collection[int], overlap_threshold: float
) -> Panoptic:
    """Accept the queries that win enough of what they claim, and number the segments that they form."""
    # In float64, where 4 / 5 is the 0.8 that a user writes and no area is too large to count.
    accepted = (contest.owned > 0) & (contest.won.double() / contest.claimed >= overlap_threshold)
    queries_of: dict[tuple[int, int | None], list[int]] = {}
    for query in accepted.nonzero()[:, 0].tolist():
        class_id = classes[query]
        queries_of.setdefault((class_id, None if class_id in stuff else query), []).append(query)
    table = torch.full((len(classes) + 1,), -1, dtype=torch.int32)
    segments = []
    for index, ((class_id, _), queries) in enumerate(queries_of.items()):
        table[queries] = index
        area = int(contest.owned[queries].sum())
        segments.append(Segment(index, class_id, max(scores[query] for query in queries), area))
    return Panoptic(table.to(contest.owner.device)[contest.owner], tuple(segments))
