"""Position tables for tiles of any size.

A vision transformer learns one position vector per patch of its training grid. Another grid gets that table resampled
by target size (never by a scale factor, whose rounding needs an offset that itself moves the table by several per
cent), bicubic with antialiasing, in float32: the antialiased kernel also differs when upsampling, and it is missing for
bfloat16 on CPUs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]
"""Rows and columns of patches."""

_Key = tuple[Grid, torch.dtype, torch.device]


def resample_positions(table: Tensor, base_grid: Grid, grid: Grid) -> Tensor:
    """Resample a position table to another grid; the table itself is never changed.

    Args:
        table: (1, P + h0*w0, D), or without the first axis; P leading rows belong to prefix tokens and are kept as they
            are.
        base_grid: h0, w0, the grid that the table was learned on.
        grid: h, w, the grid wanted.

    Returns:
        (1, P + h*w, D), or without the first axis, in the table's dtype.
    """
    if grid == base_grid:
        return table
    prefix = table.shape[-2] - base_grid[0] * base_grid[1]
    cells = table[..., prefix:, :].float().reshape(1, *base_grid, -1).permute(0, 3, 1, 2)
    cells = F.interpolate(cells, size=grid, mode="bicubic", antialias=True, align_corners=False)
    rows = cells.permute(0, 2, 3, 1).reshape(*table.shape[:-2], -1, table.shape[-1]).to(table.dtype)
    return torch.cat((table[..., :prefix, :], rows), dim=-2)


def sines(grid: Grid, base_grid: Grid, dim: int, device: torch.device) -> Tensor:
    """Compute sine positions for a grid whose cells lie where those of the training grid would.

    Args:
        grid: h, w.
        base_grid: h0, w0; cell i of h lies at (i + 1/2) h0 / h - 1/2, so every grid spans the same range.
        dim: D, a multiple of 4.
        device: where to.

    Returns:
        (h * w, D) in float32.
    """
    frequencies = 1.0 / 10000 ** (torch.arange(dim // 4, device=device) / (dim // 4 - 1))
    rows, columns = (
        ((torch.arange(length, device=device) + 0.5) * (base / length) - 0.5)
        for length, base in zip(grid, base_grid, strict=True)
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    y, x = (axis.flatten()[:, None] * frequencies for axis in (y, x))
    return torch.cat((x.sin(), x.cos(), y.sin(), y.cos()), dim=1)


class PositionCache:
    """The tables of the last few grids: a resampling of 80 x 80 positions costs a CPU core almost 0.1 s.

    Copies and pickles of a cache start empty.
    """

    def __init__(self, size: int = 8) -> None:
        """Keep the tables of at most `size` grids."""
        self._size = size
        self._tables: dict[_Key, Tensor] = {}
        self._stamp: tuple[Tensor | None, int] = (None, 0)

    def __len__(self) -> int:
        return len(self._tables)

    def __reduce__(self) -> tuple[type["PositionCache"], tuple[int]]:
        return PositionCache, (self._size,)

    def clear(self) -> None:
        """Forget every table."""
        self._tables.clear()

    def get(self, table: Tensor, base_grid: Grid, grid: Grid, *, training: bool) -> Tensor:
        """Return the table for a grid, from memory where nothing can have changed it (see `resample_positions`)."""
        if torch.compiler.is_compiling():
            # A compiled graph cannot ask whether the table changed, so it resamples anew: a little work, never stale.
            return resample_positions(table, base_grid, grid)
        if training or (torch.is_grad_enabled() and table.requires_grad):
            self.clear()
            return resample_positions(table, base_grid, grid)
        self._forget_if_changed(table)
        key = (grid, table.dtype, table.device)
        # Taking an entry out and putting it back makes it the youngest: the dict's order is the order of use.
        found = self._tables.pop(key, None)
        self._tables[key] = resample_positions(table, base_grid, grid).detach() if found is None else found
        if len(self._tables) > self._size:
            del self._tables[next(iter(self._tables))]
        return self._tables[key]

    def _forget_if_changed(self, table: Tensor) -> None:
        """Drop everything when the table was loaded, stepped or replaced since the last call."""
        # Tensors made in inference mode count no versions, and cannot be changed outside it either.
        stamp = (table, 0 if table.is_inference() else table._version)
        if self._stamp[0] is not table or self._stamp[1] != stamp[1]:
            self.clear()
            self._stamp = stamp
