"""The Encoder-only Mask Transformer: a plain ViT that segments by itself.

Patch tokens run alone through the first blocks of the encoder; Q learned queries join them for the last few. Each query
then gives one class and one mask. Kerssies et al., "Your ViT is Secretly an Image Segmentation Model", CVPR 2025.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

from eomt_core.encoders.protocol import Embedded, Encoder
from eomt_core.encoders.stem import ConvNormAct, statistics_kept
from eomt_core.errors import ModelError
from eomt_core.mask_transformer import MaskTransformer
from eomt_core.outputs import QueryMasks
from eomt_core.positions import Grid


class ScaleBlock(nn.Module):
    """Doubles the resolution of a feature map: (B, D, h, w) to (B, D, 2h, 2w)."""

    def __init__(self, dim: int) -> None:
        """Make a block for maps of D = `dim` channels."""
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(dim, dim, kernel_size=2, stride=2)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim, bias=False)
        self.norm = LayerNorm2d(dim, eps=1e-6)

    def forward(self, maps: Tensor) -> Tensor:
        """Upsample (B, D, h, w) to (B, D, 2h, 2w)."""
        out: Tensor = self.norm(self.conv2(self.act(self.conv1(maps))))
        return out


class SkipUpscale(nn.Module):
    """Doubles the resolution of the patches n times, adding a finer map of the stem each time.

    (B, D, h, w) and n maps, finest first, to (B, width, 2^n h, 2^n w).
    """

    def __init__(self, dim: int, skip_widths: Sequence[int], width: int) -> None:
        """Make it for patches of D = `dim` channels and maps of `skip_widths` channels, finest first."""
        super().__init__()
        self.patches = nn.Conv2d(dim, width, kernel_size=1)
        self.skips = nn.ModuleList(nn.Conv2d(skip, width, kernel_size=1, bias=False) for skip in skip_widths)
        self.convs = nn.ModuleList(ConvNormAct(width, width) for _ in skip_widths)

    def forward(self, patches: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Go from the coarsest map to the finest."""
        maps: Tensor = self.patches(patches)
        for skip, lateral, conv in reversed(list(zip(skips, self.skips, self.convs, strict=True))):
            maps = conv(F.interpolate(maps, size=skip.shape[-2:], mode="bilinear", align_corners=False) + lateral(skip))
        return maps


class EoMT(MaskTransformer):
    """Pixels (B, C, H, W) in [0, 1] to `QueryMasks`, for any H and W on the lattice `min_multiple`.

    Masked attention is a crutch for training: in each of the last blocks a query sees only the patches inside the mask
    it has so far, with a probability per block that training anneals from 1 to 0. Afterwards no masks are needed, and
    inference predicts once, at the end.

    Attributes:
        encoder: the token encoder.
        num_blocks: how many of the encoder's last blocks the queries take part in.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        num_q: int = 100,
        num_blocks: int = 4,
        num_upscale: int | None = None,
        masked: bool = True,
        mask_width: int | None = None,
    ) -> None:
        """Put queries and heads on an encoder.

        Args:
            encoder: see `Encoder`; `create_encoder` makes one.
            num_classes: K.
            num_q: Q.
            num_blocks: last blocks that see the queries.
            num_upscale: n, doublings of the patch grid; default max(1, floor(log2(patch)) - 2).
            masked: whether attention may be masked at all.
            mask_width: channels that masks are dot products over, behind an encoder with a stem; default D. Behind a
                plain one it is always D.

        Raises:
            ModelError: a number that does not fit the encoder.
        """
        super().__init__(num_classes, num_q, num_blocks, masked)
        patch, dim = encoder.patch_size, encoder.dim
        num_upscale = max(1, int(math.log2(patch)) - 2) if num_upscale is None else num_upscale
        _check_numbers(encoder, num_blocks, num_upscale)
        self.encoder = encoder
        self.stride = patch // 2**num_upscale
        width = mask_width or dim
        self.q = nn.Embedding(num_q, dim)
        self.class_head = nn.Linear(dim, num_classes + 1)
        gelu = nn.GELU
        self.mask_head = nn.Sequential(nn.Linear(dim, dim), gelu(), nn.Linear(dim, dim), gelu(), nn.Linear(dim, width))
        self.upscale: nn.Module = nn.Sequential(*(ScaleBlock(dim) for _ in range(num_upscale)))
        if encoder.skip_widths:
            self.upscale = SkipUpscale(dim, encoder.skip_widths[-num_upscale:], width)

    def forward(self, pixels: Tensor) -> QueryMasks:
        """Segment pixels (B, C, H, W) in [0, 1] into mask logits (B, Q, H/s, W/s) and class logits (B, Q, K+1).

        In training `aux` holds the predictions before the last blocks: before those that are masked, and before
        `aux_blocks`. In evaluation block i is masked iff its probability is above 0, by the masks predicted right
        before it.

        Raises:
            TileSizeError: H or W is no multiple of `min_multiple`.
        """
        embedded = self.encoder.embed(pixels)
        tokens, grid = embedded.tokens, embedded.grid
        first = self.encoder.num_blocks - self.num_blocks
        for index in range(first):
            tokens = self.encoder.run_block(index, tokens, rotation=embedded.rotation)
        tokens = torch.cat((self.q.weight.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        aux: list[QueryMasks] = []
        for block in range(self.num_blocks):
            attn_mask = None
            if self._predicts_before(block):
                aux.append(self._predict_early(tokens, embedded))
                attn_mask = self._attention_mask(tokens, aux[-1].mask_logits, grid, self._prob(block))
            tokens = self.encoder.run_block(first + block, tokens, attn_mask, embedded.rotation)
        final = self._predict(tokens, embedded)
        return final._replace(aux=tuple(aux)) if self.training else final

    def _predict_early(self, tokens: Tensor, embedded: Embedded) -> QueryMasks:
        """Predict before a block. Running statistics are to be those of the last prediction, the only one in use."""
        if not self.training:
            return self._predict(tokens, embedded)
        with statistics_kept(self.upscale):
            return self._predict(tokens, embedded)

    def _predict(self, tokens: Tensor, embedded: Embedded) -> QueryMasks:
        """Read classes and masks off tokens (B, Q + P + h*w, D); the norm is for the reading, never for the tokens."""
        tokens = self.encoder.final_norm(tokens)
        queries, patches = tokens[:, : self.num_q], tokens[:, self.num_q + self.encoder.num_prefix :]
        maps = self._upscale(patches.transpose(1, 2).reshape(*patches.shape[::2], *embedded.grid), embedded.skips)
        mask_logits = torch.einsum("bqd,bdhw->bqhw", self.mask_head(queries), maps)
        return QueryMasks(mask_logits, self.class_head(queries), self.stride)

    def _upscale(self, patches: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        """Bring patches (B, D, h, w) to the stride of the masks."""
        finer = (skips[-len(self.upscale.skips) :],) if isinstance(self.upscale, SkipUpscale) else ()
        out: Tensor = self.upscale(patches, *finer)
        return out

    @torch.no_grad()
    def _attention_mask(self, tokens: Tensor, mask_logits: Tensor, grid: Grid, prob: float) -> Tensor | None:
        """Forbid each query the patches outside its mask; queries and prefix stay visible, so no row is empty.

        Returns:
            (B, 1, N, N) of 0 and -inf for N = Q + P + h*w tokens, one for all heads; None where nothing is masked.
        """
        hidden = self._hidden(mask_logits, grid, prob)
        if hidden is None:
            return None
        batch, length, _ = tokens.shape
        mask = tokens.new_zeros(batch, 1, length, length)
        mask[:, 0, : self.num_q, length - hidden.shape[2] :].masked_fill_(hidden, float("-inf"))
        return mask


def _check_numbers(encoder: Encoder, num_blocks: int, num_upscale: int) -> None:
    """Refuse numbers that make no model."""
    if not 1 <= num_blocks <= encoder.num_blocks:
        raise ModelError(f"num_blocks must be 1 to {encoder.num_blocks}, the encoder's depth, got {num_blocks}")
    if num_upscale < 0 or encoder.patch_size % 2**num_upscale:
        raise ModelError(
            f"num_upscale {num_upscale} does not fit patches of {encoder.patch_size} pixels: "
            f"the stride patch / 2^n must be whole"
        )
    if encoder.skip_widths and not 1 <= num_upscale <= len(encoder.skip_widths):
        raise ModelError(
            f"num_upscale must be 1 to {len(encoder.skip_widths)}, the maps of the stem, got {num_upscale}"
        )
