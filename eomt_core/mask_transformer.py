"""What every mask transformer here shares: queries counted, and masks of attention that training anneals away."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eomt_core.errors import ModelError
from eomt_core.family import FamilyArchitecture
from eomt_core.outputs import QueryMasks
from eomt_core.positions import Grid


class MaskTransformer(nn.Module):
    """A model from pixels to `QueryMasks` whose last blocks may be masked in training.

    Attributes:
        num_classes: K, without "no object".
        num_q: Q.
        num_blocks: blocks that the queries take part in.
        masked: False switches masked attention off, whatever the probabilities say.
        aux_blocks: blocks before which a prediction is made in training even where no mask is needed.
        encoder: what turns pixels into tokens or maps.
        q: (Q, d), the queries.
        class_head: d to K+1.
        stride: s, pixels per mask cell along each axis.
        family: what `build_family` built it from; None: it was made otherwise.
        attn_mask_probs: (num_blocks,), saved with the weights; set it through `set_mask_probs`.
    """

    attn_mask_probs: Tensor
    encoder: Any
    q: nn.Embedding
    class_head: nn.Linear
    stride: int
    family: FamilyArchitecture | None = None

    def __init__(self, num_classes: int, num_q: int, num_blocks: int, masked: bool) -> None:
        """Count classes, queries and blocks.

        Raises:
            ModelError: no class, or no query.
        """
        super().__init__()
        if num_classes < 1 or num_q < 1:
            raise ModelError(f"a model needs at least one class and one query, got {num_classes} and {num_q}")
        self.num_classes, self.num_q, self.num_blocks, self.masked = num_classes, num_q, num_blocks, masked
        self.aux_blocks: Collection[int] = range(num_blocks)
        self._remember_probs((1.0,) * num_blocks)
        self.register_buffer("attn_mask_probs", torch.ones(num_blocks))
        self.register_load_state_dict_post_hook(_read_probs)  # type: ignore[no-untyped-call]  # torch annotates half of it

    @property
    def min_multiple(self) -> int:
        """The lattice: rows and columns of a tile must be multiples of it."""
        return int(self.encoder.min_multiple)

    def __call__(self, pixels: Tensor) -> QueryMasks:
        """Segment pixels (B, C, H, W) in [0, 1]."""
        out: QueryMasks = super().__call__(pixels)
        return out

    def set_mask_probs(self, probs: Sequence[float]) -> None:
        """Set the probability, per block, that a query's attention is masked; 0 or less turns the block's masks off."""
        if len(probs) != self.num_blocks:
            raise ModelError(
                f"attn_mask_probs needs one probability per query block: {self.num_blocks}, got {len(probs)}"
            )
        self.attn_mask_probs.copy_(torch.tensor(probs))
        self._remember_probs(tuple(probs))

    def _predicts_before(self, block: int) -> bool:
        """Whether a prediction is made before a block: for its masks, or for the loss."""
        return self._prob(block) > 0 or (self.training and block in self.aux_blocks)

    def _prob(self, block: int) -> float:
        return self._probs[block] if self.masked else 0.0

    @torch.no_grad()
    def _hidden(self, mask_logits: Tensor, grid: Grid, prob: float) -> Tensor | None:
        """Tell the cells outside each query's mask: (B, Q, h*w) of booleans; None where nothing is masked."""
        if prob <= 0:
            return None
        hidden = F.interpolate(mask_logits, size=grid, mode="bilinear").flatten(2) <= 0
        if self.training and prob < 1:
            hidden &= torch.rand(hidden.shape[:2], device=hidden.device).lt(prob).unsqueeze(2)
        return hidden

    def _remember_probs(self, probs: tuple[float, ...]) -> None:
        """Keep the probabilities as plain numbers: asking the buffer would stop the device before every block."""
        self._probs = probs


def _read_probs(model: MaskTransformer, _: object) -> None:
    """Remember the probabilities that came with loaded weights."""
    model._remember_probs(tuple(model.attn_mask_probs.tolist()))
