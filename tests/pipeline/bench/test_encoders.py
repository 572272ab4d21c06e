"""The experiment on encoders: what it compares is alike, what it measures is right, and rows are means of seeds."""

import numpy as np
import pytest

from eomt_core.family import PRESETS
from pipeline.bench.encoders.boundaries import REACH, compare_boundaries
from pipeline.bench.encoders.experiment import CONFIGURATIONS
from pipeline.bench.encoders.growth import Growth
from pipeline.bench.encoders.table import tabulate
from pipeline.bench.encoders.trial import Trial

EVERYWHERE = np.ones((60, 80), bool)


def halves(column: int) -> np.ndarray:
    """Class 0 left of a column, class 1 from there on."""
    return np.broadcast_to(np.arange(80) >= column, EVERYWHERE.shape).astype(int)


@pytest.mark.parametrize("side", [128, 256])
def test_configurations_take_as_many_flops(side: int) -> None:
    """At the tiles they are trained at and at twice the side, of five classes: within a tenth of each other."""
    pytest.importorskip("vit_pytorch", reason="the extra vit-pytorch is not installed")
    from dataclasses import replace

    from eomt_core.cost import flops_of

    models = [replace(PRESETS[name], num_classes=5, num_queries=5) for name in CONFIGURATIONS]
    flops = [flops_of(model, (side, side)) for model in models]
    assert max(flops) <= 1.1 * min(flops)
    assert 1e9 <= flops[0] * (256 / side) ** 2 <= 2e9


@pytest.mark.parametrize(("aside", "f1"), [(0, 1.0), (REACH, 1.0), (REACH + 1, 0.0)])
def test_a_border_is_found_within_three_pixels(aside: int, f1: float) -> None:
    """One that lies farther aside is wrong and leaves the true one missed."""
    assert compare_boundaries(halves(40), halves(40 + aside), EVERYWHERE).f1 == f1


def test_a_border_too_many_costs_precision() -> None:
    """Two borders found of which one is true: precision a half, recall whole."""
    found = compare_boundaries(halves(40), halves(40) + halves(60), EVERYWHERE)
    assert found.f1 == pytest.approx(2 / 3)
    assert (found + found).f1 == found.f1


def test_where_nothing_is_known_there_is_no_border() -> None:
    """Neither of the truth nor of the prediction; nothing found is no score."""
    known = EVERYWHERE.copy()
    known[:, 38:42] = False
    assert compare_boundaries(halves(40), halves(40), known) == (0, 0, 0, 0)
    assert compare_boundaries(halves(40), halves(40), known).f1 == 0


def test_rows_are_means_of_what_did_not_fail() -> None:
    """A failed training is counted and its scores are left out."""
    trials = [Trial("vit-pytorch", seed, miou=miou, seconds=10.0) for seed, miou in ((0, 0.4), (1, 0.6))]
    failed = Trial("vit-pytorch", 2, failed="mIoU 0.010 is below 0.15", miou=0.01, seconds=40.0)
    (row,) = tabulate([*trials, failed, Growth("vit-pytorch", 256, 10**9, 0.5, 10**7)])
    assert (row.seeds, row.failed, row.seconds) == (3, 1, 20.0)
    assert row.measures["miou"] == (0.5, pytest.approx(0.1414, abs=1e-4))
    assert row.measures["transferred"] is None
    assert "miou 0.500 ± 0.141" in row.lines
    assert "2.00 tiles per core second" in row.lines
