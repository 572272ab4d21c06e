"""Vision transformers of timm whose positions are rotations, as DINOv3 has them: timm calls the class `Eva`."""

from collections.abc import Sequence

import torch
from timm.models.eva import Eva
from torch import Tensor, nn

from eomt_core.encoders.protocol import Embedded
from eomt_core.encoders.timm_vit import TimmViT


class TimmEva(TimmViT):
    """A timm `Eva` as a token encoder (see `Encoder`): queries and keys of patches are turned by where these lie.

    The angles are computed for the grid of each tile; whatever stands before the patches is not turned.
    """

    def embed(self, pixels: Tensor) -> Embedded:
        """See `TimmViT.embed`; the angles of the grid come with the tokens."""
        embedded = super().embed(pixels)
        rope = self.backbone.rope
        return embedded if rope is None else embedded._replace(rotation=rope.get_embed(shape=list(embedded.grid)))

    def run_block(
        self, index: int, tokens: Tensor, attn_mask: Tensor | None = None, rotation: Tensor | None = None
    ) -> Tensor:
        """Run one native block; patches are the last tokens, and only they are turned."""
        if rotation is None:
            return super().run_block(index, tokens, attn_mask)
        if self.backbone.rope_mixed:  # angles are learned, block by block
            rotation = rotation[index]
        # The block leaves as many tokens alone as there are without queries; the others it turns by what it is given.
        rotation = _standing_still(rotation, tokens.shape[1] - self.num_prefix)
        out: Tensor = self.backbone.blocks[index](tokens, rope=rotation, attn_mask=attn_mask)
        return out


def of_timm(backbone: nn.Module, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> TimmViT:
    """Wrap a timm model by its kind; see `TimmViT`."""
    adapter = TimmEva if isinstance(backbone, Eva) else TimmViT
    return adapter(backbone, mean=mean, std=std)


def _standing_still(rotation: Tensor, length: int) -> Tensor:
    """Put angles of 0 before sines and cosines (..., h*w, 2 d), to make them (..., length, 2 d)."""
    missing, half = length - rotation.shape[-2], rotation.shape[-1] // 2
    sines, cosines = (rotation.new_full((*rotation.shape[:-2], missing, half), value) for value in (0.0, 1.0))
    return torch.cat((torch.cat((sines, cosines), dim=-1), rotation), dim=-2)
