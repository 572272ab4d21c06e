"""Plain vision transformers of timm, run block by block.

Queries join the sequence in the middle of the network, so the adapter drives the backbone itself: its patches, its own
position table at any grid, its prefix tokens, its native blocks. Whether that equals the backbone's own forward is not
assumed but tested for every encoder made (`TimmViT.self_test`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.layers.format import Format
from torch import Tensor, nn

from eomt_core.encoders.adapter import TokenAdapter
from eomt_core.encoders.protocol import Embedded
from eomt_core.encoders.refusals import why_refused
from eomt_core.encoders.stem import Stem
from eomt_core.errors import ModelError
from eomt_core.positions import Grid, PositionCache


class TimmViT(TokenAdapter):
    """A timm `VisionTransformer` as a token encoder (see `Encoder`), for tiles of any size on its lattice.

    Attributes:
        backbone: the timm model; its parameters keep their names.
        recipe: the arguments of `create_encoder` that make this architecture again; None for a wrapped module.
    """

    backbone: Any

    def __init__(
        self, backbone: nn.Module, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        """Wrap a backbone.

        Args:
            backbone: a timm `VisionTransformer`; it is changed so that its own forward takes any size too.
            mean: C channel means of pixels in [0, 1]; default: the backbone's pretraining, else ImageNet.
            std: C standard deviations, likewise.

        Raises:
            ModelError: the architecture cannot run with queries; the message says why and what comes nearest.
        """
        super().__init__()
        reason = why_refused(backbone)
        if reason is not None:
            raise ModelError(reason)
        self.backbone = backbone
        self.recipe: dict[str, Any] | None = None
        self._positions = PositionCache()
        self._read_shape()
        self._add_statistics(mean, std)
        _accept_any_size(backbone)

    @property
    def training_size(self) -> tuple[int, int]:
        """Rows and columns of pixels that the position table was made for."""
        rows, columns = self.backbone.patch_embed.img_size
        return rows, columns

    def embed(self, pixels: Tensor) -> Embedded:
        """Turn pixels (B, C, H, W) in [0, 1] into tokens (B, num_prefix + h*w, D) on their grid (h, w).

        Raises:
            TileSizeError: H or W is no multiple of the patch size.
            ModelError: the pixels have other channels, or are no floats.
        """
        grid = self.grid_of(pixels)
        patches, skips = self._cut(self.normalise(pixels))
        tokens = self.backbone.patch_embed.norm(patches.flatten(2).transpose(1, 2))
        # `patch_drop` is left out on purpose: dropping patches in training would tear holes into the mask grid.
        tokens = self.backbone.pos_drop(self._add_prefix_and_positions(tokens, grid))
        return Embedded(self.backbone.norm_pre(tokens), grid, skips)

    def _cut(self, normalised: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Make patches (B, D, h, w); a stem's finer maps come with them."""
        proj = self.backbone.patch_embed.proj
        if not isinstance(proj, Stem):
            return proj(normalised), ()
        *skips, patches = proj.maps(normalised)
        return patches, tuple(skips)

    def run_block(
        self, index: int, tokens: Tensor, attn_mask: Tensor | None = None, rotation: Tensor | None = None
    ) -> Tensor:
        """Run one native block on tokens (B, N, D); the mask (B, 1, N, N) of 0 and -inf is added to the logits."""
        out: Tensor = self.backbone.blocks[index](tokens, attn_mask=attn_mask)
        return out

    def final_norm(self, tokens: Tensor) -> Tensor:
        """Apply the backbone's last norm to tokens (B, N, D); pooling backbones keep it in `fc_norm`."""
        norm = self.backbone.fc_norm if isinstance(self.backbone.norm, nn.Identity) else self.backbone.norm
        out: Tensor = norm(tokens)
        return out

    def native_features(self, normalised: Tensor) -> Tensor:
        """Run timm's own forward on normalised pixels (B, C, H, W): (B, num_prefix + h*w, D)."""
        features: Tensor = self.backbone.forward_features(normalised)
        return self.backbone.fc_norm(features) if isinstance(self.backbone.norm, nn.Identity) else features

    def block_of(self, name: str) -> int | None:
        """Tell which block a parameter of the backbone belongs to: -1 before the first, None after the last."""
        if name.startswith("blocks."):
            return int(name.split(".")[1])
        return None if name.startswith(("norm.", "fc_norm.")) else -1

    def self_test(self) -> None:
        """See `TokenAdapter.self_test`; positions of the test's grid are forgotten."""
        try:
            super().self_test()
        finally:
            self._positions.clear()

    def _name(self) -> str:
        return super()._name() if self.recipe is None else str(self.recipe["name"])

    def _add_prefix_and_positions(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Put class, distillation and register tokens before the patches (B, h*w, D) and add the position table."""
        names = ("cls_token", "dist_token", "reg_token")
        present = [token for name in names if (token := getattr(self.backbone, name, None)) is not None]
        prefix = [token.expand(tokens.shape[0], -1, -1) for token in present]
        table = self.backbone.pos_embed
        if table is None:
            return torch.cat((*prefix, tokens), dim=1)
        positions = self._positions.get(table, self.backbone.patch_embed.grid_size, grid, training=self.training)
        if self.backbone.no_embed_class:
            return torch.cat((*prefix, tokens + positions), dim=1)
        return torch.cat((*prefix, tokens), dim=1) + positions

    def _read_shape(self) -> None:
        """Take the attributes of the `Encoder` protocol from the backbone."""
        self.dim: int = self.backbone.embed_dim
        self.num_blocks = len(self.backbone.blocks)
        self.num_prefix: int = self.backbone.num_prefix_tokens
        self.patch_size: int = self.backbone.patch_embed.patch_size[0]
        self.min_multiple = self.patch_size
        proj = self.backbone.patch_embed.proj
        self.in_channels: int = proj.in_channels
        self.skip_widths: tuple[int, ...] = proj.widths if isinstance(proj, Stem) else ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TimmViT":
        # A move or a cast swaps the table's storage without changing its version.
        self._positions.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it without types
        return self


def _accept_any_size(backbone: Any) -> None:
    """Let the backbone's own forward take any grid, as `dynamic_img_size=True` does at construction."""
    patch_embed = backbone.patch_embed
    patch_embed.strict_img_size = False
    patch_embed.flatten = False
    patch_embed.output_fmt = Format.NHWC
    backbone.dynamic_img_size = True
