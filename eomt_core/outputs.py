"""What a model answers: masks and classes per query."""

from typing import NamedTuple

from torch import Tensor

KEEP = 0.05
"""A query whose best class is below this probability is not kept: far below any threshold that is of use."""


class QueryMasks(NamedTuple):
    """The raw answer of a mask transformer to a batch of B tiles of H x W pixels.

    Attributes:
        mask_logits: (B, Q, H/s, W/s), one mask per query; sigmoid gives probabilities.
        class_logits: (B, Q, K+1); the last class is "no object".
        stride: s, pixels per mask cell along each axis.
        aux: in training, the predictions made before each of the last blocks, first block first; else None.
    """

    mask_logits: Tensor
    class_logits: Tensor
    stride: int
    aux: "tuple[QueryMasks, ...] | None" = None
