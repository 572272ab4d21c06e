"""EoMT on maps instead of tokens: what the queries see keeps its rows and columns.

Three ways for queries to meet the maps, with the same heads, losses and annealing, so that one thing at a time changes:

- `cross`: queries attend to maps of several strides, the coarsest first, and to each other.
- `joint`: queries and the cells of one map are one sequence, as in EoMT.
- `conv`: the baseline of 1 x 1 convolutions that the idea began with. Both of its heads are linear after a linear
  layer, so a query is a filter: it sees neither the image beyond a cell nor other queries.
"""

from collections.abc import Collection
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

from eomt_core.encoders.protocol import MapEncoder
from eomt_core.eomt import ScaleBlock
from eomt_core.errors import ModelError
from eomt_core.mask_transformer import MaskTransformer
from eomt_core.outputs import QueryMasks
from eomt_core.positions import sines

QueryMode = Literal["cross", "joint", "conv"]
JOINT_STRIDE = 16
"""Pixels per cell, about, of the map that `joint` makes a sequence of."""

FILTER_WIDTH = 8
"""Features per query of `conv`."""


class Pyramid(nn.Module):
    """Brings maps to one width and lets each finer one know the coarser; one that is too coarse is doubled."""

    def __init__(self, widths: tuple[int, ...], doublings: int, width: int, used: Collection[int]) -> None:
        """Make it for maps of `widths` channels, finest first; levels that are `used` are smoothed."""
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(each, width, kernel_size=1) for each in widths)
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, groups=width), LayerNorm2d(width, eps=1e-6))
            if index in used
            else nn.Identity()
            for index in range(len(widths))
        )
        self.upscale = nn.Sequential(*(ScaleBlock(width) for _ in range(doublings)))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the map for the masks (B, d, H/s, W/s), and all levels (B, d, h, w), finest first."""
        levels: list[Tensor] = []
        for lateral, each in zip(reversed(self.laterals), reversed(maps), strict=True):
            here = lateral(each)
            levels.insert(0, here + F.interpolate(levels[0], size=here.shape[-2:]) if levels else here)
        levels = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
        return self.upscale(levels[0]), levels


class QueryBlock(nn.Module):
    """One layer of queries (B, Q, d): look at keys (B, N, d), where not hidden, then at each other, then think."""

    def __init__(self, width: int, heads: int, *, cross: bool) -> None:
        """Make a layer; without `cross` it only attends within its own sequence."""
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if cross else 2))
        self.look = nn.MultiheadAttention(width, heads, batch_first=True) if cross else None
        self.share = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.heads = heads

    def forward(self, tokens: Tensor, hidden: Tensor | None, context: tuple[Tensor, Tensor, Tensor] | None) -> Tensor:
        """Run the layer.

        Args:
            tokens: (B, N, d).
            hidden: (B, N, M) of booleans, the keys each token may not see; None: it sees all.
            context: for a cross layer, positions of tokens (N, d), keys and values (B, M, d).
        """
        mask = None if hidden is None else hidden.repeat_interleave(self.heads, dim=0)
        if self.look is not None and context is not None:
            place, keys, values = context
            tokens = tokens + _attend(self.look, self.norms[2](tokens) + place, keys, values, mask)
            mask = None
        inner = self.norms[0](tokens)
        tokens = tokens + _attend(self.share, inner, inner, inner, mask)
        out: Tensor = tokens + self.mlp(self.norms[1](tokens))
        return out


def _attend(attention: nn.Module, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    out: Tensor = attention(queries, keys, values, attn_mask=mask, need_weights=False)[0]
    return out


class SpatialEoMT(MaskTransformer):
    """Pixels (B, C, H, W) in [0, 1] to `QueryMasks`, on the maps of an encoder.

    Attributes:
        encoder: the map encoder.
        query_mode: how queries meet the maps; see the module.
        width: d, channels of the levels and of the queries.
        stride: s, pixels per mask cell along each axis.
    """

    def __init__(
        self,
        encoder: MapEncoder,
        num_classes: int,
        num_q: int = 100,
        num_blocks: int = 4,
        query_mode: QueryMode = "cross",
        width: int = 256,
        masked: bool = True,
    ) -> None:
        """Put queries and heads on an encoder.

        Args:
            encoder: see `MapEncoder`.
            num_classes: K.
            num_q: Q.
            num_blocks: layers of the queries; `conv` has none.
            query_mode: see the module.
            width: d, a multiple of 32 so that sines and heads divide it.
            masked: whether attention may be masked at all.

        Raises:
            ModelError: a number or mode that makes no model.
        """
        super().__init__(num_classes, num_q, 0 if query_mode == "conv" else num_blocks, masked)
        if query_mode not in get_args(QueryMode):
            raise ModelError(f"query_mode {query_mode!r}: take one of {', '.join(get_args(QueryMode))}")
        if width < 1 or width % 32 or num_blocks < 1:
            raise ModelError(f"width must be a multiple of 32 and num_blocks above 0, got {width} and {num_blocks}")
        self.encoder, self.query_mode, self.width = encoder, query_mode, width
        doublings = max(0, encoder.strides[0].bit_length() - 3)
        self.stride = encoder.strides[0] // 2**doublings
        self._levels = self._levels_seen()
        self.pyramid = Pyramid(encoder.widths, doublings, width, {0, *self._levels})
        self.mask_head: nn.Module
        if query_mode == "conv":
            self._make_filters()
        else:
            self._make_layers()

    def _make_filters(self) -> None:
        """Queries that are filters of the finest map, and heads for what they give."""
        self.q = nn.Embedding(self.num_q, FILTER_WIDTH * self.width)
        self.class_head = nn.Linear(FILTER_WIDTH, self.num_classes + 1)
        self.mask_head = nn.Linear(FILTER_WIDTH, 1)

    def _make_layers(self) -> None:
        """Queries that look at the levels, the layers in which they do, and EoMT's heads."""
        width, cross, gelu = self.width, self.query_mode == "cross", nn.GELU
        self.q = nn.Embedding(self.num_q, width)
        self.class_head = nn.Linear(width, self.num_classes + 1)
        linears = [nn.Linear(width, width) for _ in range(3)]
        self.mask_head = nn.Sequential(linears[0], gelu(), linears[1], gelu(), linears[2])
        self.q_place = nn.Embedding(self.num_q, width) if cross else None
        self.level = nn.Embedding(len(self.encoder.strides), width) if cross else None
        self.blocks = nn.ModuleList(QueryBlock(width, width // 32, cross=cross) for _ in range(self.num_blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> QueryMasks:
        """Segment pixels (B, C, H, W) in [0, 1] into mask logits (B, Q, H/s, W/s) and class logits (B, Q, K+1).

        In training `aux` holds the predictions before the layers, as `EoMT` has them.

        Raises:
            TileSizeError: the encoder cannot cut H x W.
        """
        finest, levels = self.pyramid(self.encoder.maps(pixels))
        if self.query_mode == "conv":
            out = self._filter(finest)
        else:
            out = self._attend_levels(finest, levels)
        return out if self.training else out._replace(aux=None)

    def _levels_seen(self) -> list[int]:
        """The levels by layer: all of them in turn, coarsest first, or the one that `joint` joins."""
        strides = self.encoder.strides
        if self.query_mode == "joint":
            return [min(range(len(strides)), key=lambda index: abs(strides[index] - JOINT_STRIDE))] * self.num_blocks
        # The finest of several is for the masks: its cells are many and say little that the next does not.
        usable = list(range(len(strides)))[1:] or [0]
        return [usable[::-1][block % len(usable)] for block in range(self.num_blocks)]

    def _filter(self, finest: Tensor) -> QueryMasks:
        """Apply the queries as filters; classes are means over the tile, which may be taken first: all is linear."""
        filters = self.q.weight.reshape(self.num_q, FILTER_WIDTH, self.width)
        weight, bias = (self.mask_head.get_parameter(name) for name in ("weight", "bias"))
        pooled = torch.einsum("qed,bd->bqe", filters, finest.mean((2, 3)))
        filtered = torch.einsum("oe,qed->qd", weight, filters)  # the two linear layers are one
        masks = torch.einsum("qd,bdhw->bqhw", filtered, finest) + bias
        return QueryMasks(masks, self.class_head(pooled), self.stride, ())

    def _attend_levels(self, finest: Tensor, levels: list[Tensor]) -> QueryMasks:
        """Let the queries go through the layers."""
        queries = self.q.weight.expand(finest.shape[0], -1, -1)
        cells = _sequence(levels[self._levels[0]]) if self.query_mode == "joint" else None
        aux: list[QueryMasks] = []
        for index, block in enumerate(self.blocks):
            seen = self._levels[index]
            level, hidden = levels[seen], None
            if self._predicts_before(index):
                aux.append(self._predict(queries, finest, cells, level))
                hidden = self._hidden(aux[-1].mask_logits, (level.shape[2], level.shape[3]), self._prob(index))
            if cells is None:
                queries = block(queries, *self._seen(level, seen, hidden))
            else:
                queries, cells = self._join(block, queries, cells, hidden)
        return self._predict(queries, finest, cells, levels[self._levels[0]])._replace(aux=tuple(aux))

    def _join(self, block: nn.Module, queries: Tensor, cells: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run one layer on queries (B, Q, d) and cells (B, h*w, d) as one sequence; queries always see each other."""
        mask = None
        if hidden is not None:
            length = self.num_q + cells.shape[1]
            mask = hidden.new_zeros(hidden.shape[0], length, length)
            mask[:, : self.num_q, self.num_q :] = hidden
        tokens = block(torch.cat((queries, cells), dim=1), mask, None)
        return tokens[:, : self.num_q], tokens[:, self.num_q :]

    def _seen(
        self, level: Tensor, index: int, hidden: Tensor | None
    ) -> tuple[Tensor | None, tuple[Tensor, Tensor, Tensor]]:
        """What queries see of a level; one whose mask is empty sees all of it, as nothing else is there to see."""
        assert self.q_place is not None
        assert self.level is not None
        if hidden is not None:
            hidden = hidden & ~hidden.all(2, keepdim=True)
        values = level.flatten(2).transpose(1, 2)
        return hidden, (self.q_place.weight, _sequence(level) + self.level.weight[index], values)

    def _predict(self, queries: Tensor, finest: Tensor, cells: Tensor | None, level: Tensor) -> QueryMasks:
        """Read classes and masks off queries (B, Q, d); cells that they were one sequence with say their part."""
        queries = self.norm(queries)
        if cells is not None:
            maps = self.norm(cells).transpose(1, 2).reshape(level.shape)
            finest = finest + F.interpolate(maps, size=finest.shape[-2:], mode="bilinear", align_corners=False)
        masks = torch.einsum("bqd,bdhw->bqhw", self.mask_head(queries), finest)
        return QueryMasks(masks, self.class_head(queries), self.stride)


def _sequence(level: Tensor) -> Tensor:
    """Make cells (B, h*w, d) of a level (B, d, h, w), with sine positions."""
    grid = (level.shape[2], level.shape[3])
    cells: Tensor = level.flatten(2).transpose(1, 2)
    return cells + sines(grid, grid, level.shape[1], level.device).to(level)
