"""Masks enlarged to the tile's size, a strip of rows at a time."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

# On a CPU a strip should stay in a core's cache: sixteen rows of 512 pixels and 100 queries are the fastest there.
# An accelerator wants few large launches instead.
STRIP_BYTES_CPU = 4 << 20
STRIP_BYTES_ACCELERATOR = 256 << 20


def enlarged_strips(
    mask_logits: Tensor, size: tuple[int, int], rows: range | None = None
) -> Iterator[tuple[range, Tensor]]:
    """Enlarge masks strip by strip, from the top down.

    Args:
        mask_logits: (B, Q, h, w).
        size: H and W, which h and w are enlarged to.
        rows: Which of the H rows; all of them by default.

    Yields:
        The rows of a strip, and its logits (B, strip, W, Q) as ``enlarged_rows`` gives them.
    """
    rows = range(size[0]) if rows is None else rows
    budget = STRIP_BYTES_CPU if mask_logits.device.type == "cpu" else STRIP_BYTES_ACCELERATOR
    batch, queries = mask_logits.shape[:2]
    step = max(1, budget // (4 * batch * queries * size[1]))
    for start in range(0, len(rows), step):
        strip = rows[start : start + step]
        yield strip, enlarged_rows(mask_logits, size, strip)


def enlarged_rows(mask_logits: Tensor, size: tuple[int, int], rows: range) -> Tensor:
    """Rows of ``interpolate(mask_logits, size, mode="bilinear", align_corners=False)``, without making the others.

    Args:
        mask_logits: (B, Q, h, w).
        size: H and W, which h and w are enlarged to.
        rows: Which of the H rows.

    Returns:
        (B, rows, W, Q) float32; with the queries last, summing over them is one matrix product.
    """
    height = mask_logits.shape[2]
    # Positions come from the row's number in the tile, so a row is the same in whichever strip it is made.
    position = ((torch.arange(rows.start, rows.stop) + 0.5) * (height / size[0]) - 0.5).clamp(min=0)
    above = position.long()
    below = (above + 1).clamp(max=height - 1)
    first, last = int(above[0]), int(below[-1])
    cells = mask_logits[:, :, first : last + 1].permute(0, 2, 3, 1).float().contiguous()
    upper, lower, weight = (part.to(cells.device) for part in (above - first, below - first, position - above))
    # Rows before columns: a line of the lattice is shorter than one of the tile, by the stride.
    lines = torch.lerp(cells[:, upper], cells[:, lower], weight[:, None, None])
    wide = F.interpolate(lines.permute(0, 3, 1, 2), size=(len(rows), size[1]), mode="bilinear", align_corners=False)
    return wide.permute(0, 2, 3, 1)
