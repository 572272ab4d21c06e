"""`ViT` and `SimpleViT` of vit-pytorch, run block by block.

Their attention takes no mask, and their own forward takes either any smaller image, with the wrong rows of the position
table (`ViT`), or the size of construction alone (`SimpleViT`). So the adapter attends itself, with their weights, and
makes the positions of each grid.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from vit_pytorch.simple_vit import SimpleViT
from vit_pytorch.vit import ViT

from eomt_core.encoders.adapter import TokenAdapter
from eomt_core.encoders.protocol import Embedded
from eomt_core.errors import ModelError
from eomt_core.positions import Grid, PositionCache, sines


class VitPytorch(TokenAdapter):
    """A `ViT` or `SimpleViT` as a token encoder (see `Encoder`), for tiles of any size on its lattice.

    Attributes:
        extrapolate: whether sine positions of a `SimpleViT` go on beyond the training grid; else every grid spans the
            same range, as a resampled table does.
    """

    backbone: Any

    def __init__(
        self,
        backbone: ViT | SimpleViT,
        image_size: tuple[int, int],
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        extrapolate: bool = False,
    ) -> None:
        """Wrap a backbone; its classifier goes, as it would be weights without a gradient.

        Args:
            backbone: a `ViT` or `SimpleViT`.
            image_size: rows and columns of pixels that it was made for, which it does not keep.
            mean: C channel means of pixels in [0, 1]; default: ImageNet.
            std: C standard deviations, likewise.
            extrapolate: see the attribute.

        Raises:
            ModelError: another class, patches that are not square, or a position table of another size.
        """
        super().__init__()
        _check(backbone, image_size)
        self.backbone = backbone
        self.extrapolate = extrapolate
        self._image_size = image_size
        self._positions = PositionCache()
        self._read_shape()
        self._add_statistics(mean, std)

    @property
    def training_size(self) -> tuple[int, int]:
        """Rows and columns of pixels that the positions were made for."""
        return self._image_size

    def block_of(self, name: str) -> int | None:
        """Tell which block a parameter of the backbone belongs to: -1 before the first, None after the last."""
        if name.startswith("transformer.layers."):
            return int(name.split(".")[2])
        return None if name.startswith("transformer.norm.") else -1

    def embed(self, pixels: Tensor) -> Embedded:
        """Turn pixels (B, C, H, W) in [0, 1] into tokens (B, num_prefix + h*w, D) on their grid (h, w).

        Raises:
            TileSizeError: H or W is no multiple of the patch size.
            ModelError: the pixels have other channels, or are no floats.
        """
        grid = self.grid_of(pixels)
        tokens = self.backbone.to_patch_embedding(self.normalise(pixels))
        if isinstance(self.backbone, SimpleViT):
            return Embedded(tokens + self._waves(grid).to(tokens), grid)
        prefix = self.backbone.cls_token.expand(tokens.shape[0], -1, -1)
        table = self._positions.get(self.backbone.pos_embedding, self._base_grid, grid, training=self.training)
        return Embedded(self.backbone.dropout(torch.cat((prefix, tokens), dim=1) + table), grid)

    def run_block(
        self, index: int, tokens: Tensor, attn_mask: Tensor | None = None, rotation: Tensor | None = None
    ) -> Tensor:
        """Run one block on tokens (B, N, D); the mask (B, 1, N, N) of 0 and -inf is added to the logits."""
        attention, feed_forward = self.backbone.transformer.layers[index]
        tokens = _attend(attention, tokens, attn_mask) + tokens
        out: Tensor = feed_forward(tokens) + tokens
        return out

    def final_norm(self, tokens: Tensor) -> Tensor:
        """Apply the transformer's last norm to tokens (B, N, D)."""
        out: Tensor = self.backbone.transformer.norm(tokens)
        return out

    def native_features(self, normalised: Tensor) -> Tensor:
        """Run the library's own forward, and take what its transformer gives: (B, num_prefix + h*w, D)."""
        seen: list[Tensor] = []
        hook = self.backbone.transformer.register_forward_hook(lambda module, given, made: seen.append(made))
        try:
            self.backbone(normalised)
        finally:
            hook.remove()
        return seen[0]

    def _test_size(self) -> tuple[int, int]:
        """The one size at which the library's own forward is right."""
        return self._image_size

    def _waves(self, grid: Grid) -> Tensor:
        base = grid if self.extrapolate else self._base_grid
        return sines(grid, base, self.dim, self.pixel_mean.device)

    def _read_shape(self) -> None:
        """Take the attributes of the `Encoder` protocol from the backbone, and its classifier away."""
        simple = isinstance(self.backbone, SimpleViT)
        setattr(self.backbone, "linear_head" if simple else "mlp_head", torch.nn.Identity() if simple else None)
        self.dim = self.backbone.transformer.norm.normalized_shape[0]
        self.num_blocks = len(self.backbone.transformer.layers)
        self.num_prefix = 0 if simple else self.backbone.cls_token.shape[0]
        self.patch_size = self.min_multiple = self.backbone.patch_size[0]
        self.in_channels = self.backbone.to_patch_embedding[2].in_features // self.patch_size**2
        self._base_grid = (self._image_size[0] // self.patch_size, self._image_size[1] // self.patch_size)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "VitPytorch":
        # A move or a cast swaps the table's storage without changing its version.
        self._positions.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it without types
        return self


def _attend(attention: Any, tokens: Tensor, attn_mask: Tensor | None) -> Tensor:
    """Do what the library's attention does, with a mask: (B, N, D) to (B, N, D)."""
    parts = attention.to_qkv(attention.norm(tokens)).chunk(3, dim=-1)
    queries, keys, values = (part.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in parts)
    # SimpleViT has no dropout.
    dropout = attention.dropout.p if attention.training and hasattr(attention, "dropout") else 0.0
    mixed = F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=attn_mask, dropout_p=dropout, scale=attention.scale
    )
    out: Tensor = attention.to_out(mixed.transpose(1, 2).flatten(2))
    return out


def _check(backbone: Any, image_size: tuple[int, int]) -> None:
    """Refuse what has not the parts that the adapter drives."""
    if not isinstance(backbone, ViT | SimpleViT):
        raise ModelError(f"{type(backbone).__name__} is no ViT or SimpleViT of vit-pytorch; take one of these two")
    rows, columns = backbone.patch_size
    if rows != columns:
        raise ModelError(f"patches of {rows}x{columns} pixels; only square ones are supported")
    prefix = backbone.cls_token.shape[0] if isinstance(backbone, ViT) else 0
    if backbone.pos_embedding.shape[0] - prefix != (image_size[0] // rows) * (image_size[1] // rows):
        raise ModelError(
            f"{backbone.pos_embedding.shape[0] - prefix} positions are no grid for {image_size[0]}x{image_size[1]} "
            f"pixels with patches of {rows}; give the image_size that the backbone was made with"
        )
