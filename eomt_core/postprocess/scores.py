"""Class scores and labels: every query votes for every class with its mask."""

from collections.abc import Iterator

import torch
from torch import Tensor

from eomt_core.outputs import QueryMasks
from eomt_core.postprocess.strips import enlarged_strips


@torch.no_grad()
def fold_scores(masks: QueryMasks) -> Tensor:
    """Fold the queries into one score per class and cell: S_c = sum over q of softmax(class_q)_c * sigmoid(mask_q).

    Returns:
        (B, K, h, w) float32 at the model's stride. S is not bounded by 1, since masks may overlap.
    """
    mask_probs = masks.mask_logits.float().sigmoid()
    return _matmul(class_probs(masks).mT, mask_probs.flatten(2)).reshape(len(mask_probs), -1, *mask_probs.shape[2:])


@torch.no_grad()
def semantic(masks: QueryMasks, size: tuple[int, int]) -> Tensor:
    """Label each pixel of B tiles of H x W pixels with its best class.

    Returns:
        (B, H, W) int64; of equal scores the lower class wins.
    """
    return torch.cat([scores.argmax(-1) for scores in _score_strips(masks, size, range(size[0]))], dim=1)


@torch.no_grad()
def semantic_scores(masks: QueryMasks, size: tuple[int, int], rows: slice = slice(None)) -> Tensor:
    """Score the classes on some rows of B tiles of H x W pixels: masks are first enlarged, then folded.

    Besides the result it needs one strip of enlarged masks (``strips.STRIP_BYTES_CPU``), however many the rows.

    Returns:
        (B, rows, W, K) float32; ``argmax(-1)`` of it is ``semantic``.

    Raises:
        ValueError: When ``rows`` has a step or holds no row of the tile.
    """
    span = range(size[0])[rows]
    if not span or span.step != 1:
        raise ValueError(
            f"rows: got {rows} of a tile of {size[0]} rows; give a slice of at least one row, without a step"
        )
    return torch.cat(list(_score_strips(masks, size, span)), dim=1)


def class_probs(masks: QueryMasks) -> Tensor:
    """Softmax over the classes and "no object", less the latter: (B, Q, K) float32."""
    return masks.class_logits.float().softmax(-1)[..., :-1]


def _score_strips(masks: QueryMasks, size: tuple[int, int], rows: range) -> Iterator[Tensor]:
    """Yield (B, strip, W, K) scores."""
    probs = class_probs(masks)
    for strip, logits in enlarged_strips(masks.mask_logits, size, rows):
        yield _matmul(logits.sigmoid_().flatten(1, 2), probs).reshape(len(logits), len(strip), size[1], -1)


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    """Multiply in float32, even where a caller's autocast would round to bfloat16."""
    with torch.autocast(left.device.type, enabled=False):
        return left @ right
