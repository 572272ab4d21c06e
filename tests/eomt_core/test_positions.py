"""Position tables are resampled as timm does it, remembered while nothing changes, and never edited."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import resample_abs_pos_embed
from torch import nn

from eomt_core.positions import PositionCache, resample_positions

SIDES = st.integers(1, 9)
GRIDS = st.tuples(SIDES, SIDES)


def make_table(base_grid: tuple[int, int], prefix: int = 0, dim: int = 4) -> torch.Tensor:
    """A random table (1, prefix + h0*w0, dim), the same in every test."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, prefix + base_grid[0] * base_grid[1], dim, generator=generator)


@given(base_grid=GRIDS, grid=GRIDS, prefix=st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_equals_timm_exactly(base_grid, grid, prefix):
    """Every grid, square or not, gets the table that timm's own function makes."""
    table = make_table(base_grid, prefix)
    wanted = resample_abs_pos_embed(table, list(grid), list(base_grid), num_prefix_tokens=prefix)
    assert torch.equal(resample_positions(table, base_grid, grid), wanted)


def test_rows_stay_rows():
    """A table that tells rows apart and no columns still does so on a wider grid."""
    table = torch.arange(4.0).repeat_interleave(4).reshape(1, 16, 1)
    cells = resample_positions(table, (4, 4), (4, 9)).reshape(4, 9)
    assert torch.allclose(cells, torch.arange(4.0)[:, None].expand(4, 9), atol=1e-5)


def test_prefix_rows_are_kept():
    """Rows of class and register tokens have no place on the grid and pass through."""
    table = make_table((3, 3), prefix=2)
    assert torch.equal(resample_positions(table, (3, 3), (5, 7))[:, :2], table[:, :2])


def test_table_is_not_edited():
    """Resampling reads the learned table and leaves it alone."""
    table = make_table((3, 3))
    before = table.clone()
    resample_positions(table, (3, 3), (6, 2)).add_(1)
    assert torch.equal(table, before)


def test_half_precision_is_computed_in_full():
    """A bfloat16 table is resampled in float32 and rounded once."""
    table = make_table((4, 4)).bfloat16()
    wanted = resample_positions(table.float(), (4, 4), (6, 6)).bfloat16()
    assert torch.equal(resample_positions(table, (4, 4), (6, 6)), wanted)


def test_remembers_a_grid():
    """The second tile of a size gets the very tensor of the first."""
    cache, table = PositionCache(), make_table((3, 3))
    first = cache.get(table, (3, 3), (5, 5), training=False)
    assert cache.get(table, (3, 3), (5, 5), training=False) is first


def test_forgets_the_least_recently_used():
    """A full cache drops the grid that was not asked for longest."""
    cache, table = PositionCache(size=2), make_table((3, 3))
    kept, dropped = (cache.get(table, (3, 3), grid, training=False) for grid in ((4, 4), (5, 5)))
    cache.get(table, (3, 3), (4, 4), training=False)
    cache.get(table, (3, 3), (6, 6), training=False)
    assert len(cache) == 2
    assert cache.get(table, (3, 3), (4, 4), training=False) is kept
    assert cache.get(table, (3, 3), (5, 5), training=False) is not dropped


def test_dtypes_do_not_share_an_entry():
    """A cast table gets positions of its own dtype."""
    cache, table = PositionCache(), make_table((3, 3))
    found = [cache.get(t, (3, 3), (4, 4), training=False).dtype for t in (table, table.double(), table)]
    assert found == [torch.float32, torch.float64, torch.float32]


@pytest.mark.parametrize("assign", [False, True])
def test_loading_weights_drops_the_cache(assign):
    """Positions after load_state_dict come from the loaded table, copied in or swapped in."""
    cache, owner = PositionCache(), nn.ParameterDict({"table": make_table((3, 3))})
    with torch.no_grad():
        before = cache.get(owner["table"], (3, 3), (4, 4), training=False)
        owner.load_state_dict({"table": owner["table"] * 2}, assign=assign)
        after = cache.get(owner["table"], (3, 3), (4, 4), training=False)
    assert torch.equal(after, before * 2)


def test_an_optimiser_step_drops_the_cache():
    """Evaluate, train, evaluate: the second evaluation sees the trained table."""
    cache, table = PositionCache(), nn.Parameter(make_table((3, 3)))
    with torch.no_grad():
        before = cache.get(table, (3, 3), (4, 4), training=False)
    table.grad = torch.ones_like(table)
    torch.optim.SGD([table], lr=1.0).step()
    with torch.no_grad():
        after = cache.get(table, (3, 3), (4, 4), training=False)
    assert torch.allclose(after, before - 1, atol=1e-5)


@pytest.mark.parametrize(("training", "grad"), [(True, False), (True, True), (False, True)])
def test_what_may_learn_is_not_remembered(training, grad):
    """In training mode, or where a gradient may flow to the table, nothing is kept."""
    cache, table = PositionCache(), nn.Parameter(make_table((3, 3)))
    with torch.set_grad_enabled(grad):
        positions = cache.get(table, (3, 3), (4, 4), training=training)
    assert (len(cache), positions.requires_grad) == (0, grad)


def test_inference_mode_is_served():
    """A table born in inference mode, which counts no versions, is resampled and remembered all the same."""
    with torch.inference_mode():
        cache, table = PositionCache(), make_table((3, 3))
        first = cache.get(table, (3, 3), (4, 4), training=False)
        assert cache.get(table, (3, 3), (4, 4), training=False) is first


def test_copies_start_empty():
    """A copied model carries no positions of the original."""
    cache = PositionCache(size=3)
    cache.get(make_table((3, 3)), (3, 3), (4, 4), training=False)
    assert (len(copy.deepcopy(cache)), len(cache)) == (0, 1)
