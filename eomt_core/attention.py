"""Where queries look: the attention of each query over a tile, taken as the model runs.

The models attend through torch's own functions, with whatever encoder; those are listened to, so nothing is computed a
second way.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from eomt_core.checkpoint import load_model
from eomt_core.errors import ModelError
from eomt_core.mask_transformer import MaskTransformer
from eomt_core.positions import Grid


def load_attention(location: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Load a model, and give what tells its attention: pixels (C, H, W) in [0, 1] to (Q, h, w).

    Raises:
        ModelError: it cannot be loaded, or has no queries.
    """
    model = load_model(location).eval()
    if not isinstance(model, MaskTransformer):
        raise ModelError(f"model {location}: has no queries whose attention could be shown")
    return lambda pixels: query_attention(model, torch.from_numpy(pixels)[None]).float().numpy()


@torch.no_grad()
def query_attention(model: MaskTransformer, pixels: Tensor) -> Tensor:
    """Tell how much each query attends to each cell, in the last layer in which it attends to cells.

    Args:
        model: in evaluation, with queries that attend.
        pixels: (1, C, H, W) in [0, 1].

    Returns:
        (Q, h, w), mean over the heads; what a query gives to other tokens is missing from the sum over the cells.

    Raises:
        ModelError: no query attends to cells, as in the mode conv.
    """
    grids = _grids(model, (pixels.shape[2], pixels.shape[3]))
    with _Listener(model.num_q, grids) as listener:
        model(pixels)
    seen: Tensor | None = listener.seen
    if seen is None:
        raise ModelError("the queries of this model attend to nothing: there is no attention to show")
    return seen


def _grids(model: MaskTransformer, size: tuple[int, int]) -> list[Grid]:
    """Rows and columns of the maps, or of the patches, that queries may attend to."""
    strides: Sequence[int] = getattr(model.encoder, "strides", None) or (model.encoder.patch_size,)
    return [(size[0] // stride, size[1] // stride) for stride in strides]


class _Listener(TorchFunctionMode):
    """Hears every attention of a forward, and keeps the last one of queries to cells.

    Queries are the first rows of what attends, and cells the last of what is attended to; where queries attend to each
    other alone there are no cells.

    Args:
        queries: Q.
        grids: of the maps.
    """

    def __init__(self, queries: int, grids: Sequence[Grid]) -> None:
        super().__init__()
        self.queries, self.grids = queries, grids
        self.seen: Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._keep(_weights(*args, **kwargs).mean(1)[0])
        elif func is F.multi_head_attention_forward:
            out, weights = func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": True})
            self._keep(weights[0] if weights.ndim == 3 else weights)
            return out, None
        return func(*args, **kwargs)

    def _keep(self, weights: Tensor) -> None:
        """Keep weights (N, M) if the first rows are queries that see cells."""
        rows, keys = weights.shape
        joined = rows == keys  # one sequence of queries, perhaps a prefix, and cells
        for grid in self.grids:
            cells = grid[0] * grid[1]
            if (joined and keys >= self.queries + cells) or (not joined and rows == self.queries and keys == cells):
                self.seen = weights[: self.queries, -cells:].reshape(self.queries, *grid)
                return


def _weights(query: Tensor, key: Tensor, *rest: Any, **more: Any) -> Tensor:
    """What attention multiplies values with: (B, heads, N, M)."""
    scale, mask = more.get("scale"), more.get("attn_mask")
    logits = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    weights: Tensor = (logits if mask is None else logits + mask).softmax(-1)
    return weights
