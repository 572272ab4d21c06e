"""What the mask transformer asks of an encoder."""

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from eomt_core.positions import Grid


class Embedded(NamedTuple):
    """Pixels (B, C, H, W) on their way through an encoder.

    Attributes:
        tokens: (B, num_prefix + h*w, D), patches row by row.
        grid: h, w.
        skips: maps (B, c, h', w') that the patches were made from, finest first, for the masks; encoders that cut their
            patches in one step have none.
        rotation: sines and cosines (..., h*w, 2 d) by which the blocks turn queries and keys of the patches; None where
            positions are in the tokens.
    """

    tokens: Tensor
    grid: Grid
    skips: tuple[Tensor, ...] = ()
    rotation: Tensor | None = None


@runtime_checkable
class Encoder(Protocol):
    """An encoder of the token kind: pixels become one sequence, and every block maps it to one of the same shape.

    Attributes:
        dim: D, the width of a token.
        num_blocks: blocks that `run_block` can run.
        num_prefix: tokens before the patches (class, registers, distillation).
        patch_size: pixels per patch along each axis.
        min_multiple: the lattice; rows and columns of a tile must be multiples of it.
        in_channels: C, the bands of the input.
        skip_widths: channels of the maps that `embed` gives besides the tokens, finest first.
    """

    dim: int
    num_blocks: int
    num_prefix: int
    patch_size: int
    min_multiple: int
    in_channels: int
    skip_widths: tuple[int, ...]

    def embed(self, pixels: Tensor) -> Embedded:
        """Turn pixels (B, C, H, W) in [0, 1] into tokens."""
        ...

    def run_block(
        self, index: int, tokens: Tensor, attn_mask: Tensor | None = None, rotation: Tensor | None = None
    ) -> Tensor:
        """Run one block on tokens (B, N, D) of any N, patches last, with the rotation that `embed` gave.

        The mask (B, 1, N, N) is added to the attention logits.
        """
        ...

    def final_norm(self, tokens: Tensor) -> Tensor:
        """Normalise tokens (B, N, D) for a prediction."""
        ...


@runtime_checkable
class MapEncoder(Protocol):
    """An encoder of the map kind: pixels become maps at several strides, finest first.

    Attributes:
        num_blocks: blocks, of all stages.
        min_multiple: the lattice; rows and columns of a tile must be multiples of it.
        in_channels: C, the bands of the input.
        strides: pixels per cell of each map, finest first.
        widths: channels of each map.
    """

    num_blocks: int
    min_multiple: int
    in_channels: int
    strides: tuple[int, ...]
    widths: tuple[int, ...]

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Turn pixels (B, C, H, W) in [0, 1] into normalised maps (B, widths[i], H / strides[i], W / strides[i])."""
        ...
