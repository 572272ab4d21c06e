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

from eomt_core.encoders.protocol import Embedded
from eomt_core.encoders.refusals import why_refused
from eomt_core.encoders.stem import Stem
from eomt_core.errors import ModelError, TileSizeError
from eomt_core.positions import Grid, PositionCache

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SELF_TEST_TOLERANCE = 1e-4


class TimmViT(nn.Module):
    """A timm `VisionTransformer` as a token encoder (see `Encoder`), for tiles of any size on its lattice.

    Attributes:
        backbone: the timm model; its parameters keep their names.
        pixel_mean: (1, C, 1, 1), with `pixel_std` the normalisation that the backbone was trained with; not saved.
        recipe: the arguments of `create_encoder` that make this architecture again; None for a wrapped module.
    """

    backbone: Any
    pixel_mean: Tensor
    pixel_std: Tensor

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
        grid = self._grid_of(pixels)
        patches, skips = self._cut((pixels - self.pixel_mean) / self.pixel_std)
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

    def run_block(self, index: int, tokens: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Run one native block on tokens (B, N, D); the mask (B, 1, N, N) of 0 and -inf is added to the logits."""
        out: Tensor = self.backbone.blocks[index](tokens, attn_mask=attn_mask)
        return out

    def final_norm(self, tokens: Tensor) -> Tensor:
        """Apply the backbone's last norm to tokens (B, N, D); pooling backbones keep it in `fc_norm`."""
        norm = self.backbone.fc_norm if isinstance(self.backbone.norm, nn.Identity) else self.backbone.norm
        out: Tensor = norm(tokens)
        return out

    def features(self, pixels: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Run the whole encoder without queries: pixels (B, C, H, W) to normalised tokens (B, num_prefix + h*w, D)."""
        tokens = self.embed(pixels).tokens
        for index in range(self.num_blocks):
            tokens = self.run_block(index, tokens, attn_mask)
        return self.final_norm(tokens)

    def self_test(self) -> None:
        """Check on a small random image that the adapter computes what the backbone computes, with and without a mask.

        The mode of the encoder and torch's random state are left as they were.

        Raises:
            ModelError: the features differ, or a block takes no attention mask.
        """
        training = self.training
        self.eval()
        try:
            self._compare_with_backbone()
        finally:
            self.train(training)
            self._positions.clear()

    @torch.no_grad()
    def _compare_with_backbone(self) -> None:
        pixels = self._test_image()
        tokens = self.num_prefix + 6
        try:
            wanted = self.backbone.forward_features((pixels - self.pixel_mean) / self.pixel_std)
            wanted = wanted if not isinstance(self.backbone.norm, nn.Identity) else self.backbone.fc_norm(wanted)
            found = (self.features(pixels), self.features(pixels, pixels.new_zeros(1, 1, tokens, tokens)))
        except (RuntimeError, TypeError, AssertionError) as error:
            raise ModelError(f"{self._name()} does not run block by block with an attention mask: {error}") from error
        worst = max(float((wanted - features).abs().max()) for features in found)
        if not worst <= SELF_TEST_TOLERANCE:
            raise ModelError(
                f"{self._name()} computes other features block by block than as a whole (off by {worst:.2g}, allowed "
                f"{SELF_TEST_TOLERANCE:g}); choose a plain ViT such as vit_small_patch14_reg4_dinov2"
            )

    def _test_image(self) -> Tensor:
        """Draw 2 x 3 patches: rows and columns differ, so a transposed grid cannot pass."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, self.in_channels, 2 * self.patch_size, 3 * self.patch_size)
        return torch.rand(shape, generator=generator).to(self.pixel_mean)

    def _name(self) -> str:
        return type(self.backbone).__name__ if self.recipe is None else str(self.recipe["name"])

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

    def _grid_of(self, pixels: Tensor) -> Grid:
        """Read the grid off the input: a stored grid would accept another shape of equal token count silently."""
        if pixels.ndim != 4 or pixels.shape[1] != self.in_channels or not pixels.is_floating_point():
            raise ModelError(
                f"pixels must be floats in [0, 1] of shape (B, {self.in_channels}, H, W), "
                f"got {pixels.dtype} of shape {tuple(pixels.shape)}"
            )
        rows, columns = pixels.shape[-2:]
        lattice = self.min_multiple
        if rows % lattice or columns % lattice or not rows * columns:
            nearest = [max(1, (length + lattice // 2) // lattice) * lattice for length in (rows, columns)]
            raise TileSizeError(
                f"tile size {rows}x{columns}: rows and columns must be multiples of {lattice}; "
                f"the nearest valid size is {nearest[0]}x{nearest[1]}"
            )
        return rows // self.patch_size, columns // self.patch_size

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

    def _add_statistics(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        """Register the normalisation; not persistent, because weight files of the field do not agree on it."""
        config = getattr(self.backbone, "pretrained_cfg", None) or {}
        for name, given, key, default in (
            ("pixel_mean", mean, "mean", IMAGENET_MEAN),
            ("pixel_std", std, "std", IMAGENET_STD),
        ):
            values = _per_channel(tuple(given or config.get(key) or default), self.in_channels, given is not None)
            self.register_buffer(name, torch.tensor(values).reshape(1, -1, 1, 1), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TimmViT":
        # A move or a cast swaps the table's storage without changing its version.
        self._positions.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it without types
        return self


def _per_channel(values: tuple[float, ...], channels: int, explicit: bool) -> tuple[float, ...]:
    """Return one value per channel; statistics of three colours say only their average about other bands."""
    if len(values) == channels:
        return values
    if explicit:
        raise ModelError(f"mean and std need one value per channel: {channels}, got {len(values)}")
    return (sum(values) / len(values),) * channels


def _accept_any_size(backbone: Any) -> None:
    """Let the backbone's own forward take any grid, as `dynamic_img_size=True` does at construction."""
    patch_embed = backbone.patch_embed
    patch_embed.strict_img_size = False
    patch_embed.flatten = False
    patch_embed.output_fmt = Format.NHWC
    backbone.dynamic_img_size = True
