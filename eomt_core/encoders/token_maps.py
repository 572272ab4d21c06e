"""A plain ViT as an encoder of the map kind: one map, of its patches."""

from torch import Tensor, nn

from eomt_core.encoders.adapter import TokenAdapter


class TokenMaps(nn.Module):
    """The last tokens of an encoder as a map (see `MapEncoder`); prefix tokens have done their work and are dropped."""

    def __init__(self, tokens: TokenAdapter) -> None:
        """Wrap an encoder of the token kind."""
        super().__init__()
        self.tokens = tokens
        self.num_blocks, self.min_multiple = tokens.num_blocks, tokens.min_multiple
        self.in_channels, self.training_size = tokens.in_channels, tokens.training_size
        self.strides, self.widths = (tokens.patch_size,), (tokens.dim,)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Turn pixels (B, C, H, W) in [0, 1] into one normalised map (B, D, H/p, W/p).

        Raises:
            TileSizeError: H or W is no multiple of the patch size.
        """
        grid = self.tokens.grid_of(pixels)
        patches = self.tokens.features(pixels)[:, self.tokens.num_prefix :]
        return [patches.transpose(1, 2).reshape(len(patches), -1, *grid)]
