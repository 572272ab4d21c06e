"""Seams in blocks: what is counted does not depend on how the mosaic is cut, and straight runs are what they say."""

import math
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stitch.seams import RUN, SeamCounter, phantom_lines, seam_gradient_ratio, seam_lines
from pipeline.tiling import TilePlan

PLAN = TilePlan((100, 140), (32, 32), (8, 8), 4)
cuts = st.lists(st.integers(1, 139), max_size=5, unique=True)


def patches(seed, shape=PLAN.shape):
    """Labels in patches of 9 pixels, so that straight outlines are long, with some nodata."""
    random = np.random.default_rng(seed)
    coarse = random.choice([0, 1, 2, 255], [-(-size // 9) for size in shape], p=[0.4, 0.3, 0.2, 0.1])
    return np.kron(coarse, np.ones((9, 9), int))[: shape[0], : shape[1]].astype(np.uint8)


def parts(size, cuts):
    """Slices between cuts."""
    edges = sorted({0, size, *(cut for cut in cuts if cut < size)})
    return [slice(*pair) for pair in pairwise(edges)]


@given(st.integers(0, 5), cuts, cuts, st.booleans())
def test_blocks_are_the_whole(seed, row_cuts, col_cuts, by_columns):
    """Row by row or column by column, as long as what is above and to the left comes before."""
    image, counter = patches(seed), SeamCounter(PLAN, 255)
    blocks = [(rows, cols) for rows in parts(100, row_cuts) for cols in parts(140, col_cuts)]
    for rows, cols in sorted(blocks, key=lambda block: (block[1].start if by_columns else 0, block[0].start)):
        counter.add(image[rows, cols], rows.start, cols.start)
    assert counter.seams == seam_gradient_ratio(image, PLAN, 255)


def straight_by_loops(image, plan, find):
    """Straight-seam length, one pixel after the other."""
    long, pixels = 0, 0
    for view, axis in ((image, plan.rows), (image.T, plan.cols)):
        for line in find(axis):
            pairs = [(a, b) for a, b in zip(view[line - 1].tolist(), view[line].tolist(), strict=True)]
            pixels += sum(255 not in pair for pair in pairs)
            runs = [
                len(list(run)) for changed, run in groupby(a != b and 255 not in (a, b) for a, b in pairs) if changed
            ]
            long += sum(run for run in runs if run >= RUN)
    return 1000 * long / pixels


@pytest.mark.parametrize("seed", range(4))
def test_straight_seams_are_runs_of_eight(seed):
    """On the tiles' lines and on the phantom grid."""
    found = seam_gradient_ratio(image := patches(seed), PLAN, 255)
    assert found.straight == pytest.approx(straight_by_loops(image, PLAN, seam_lines))
    assert found.phantom_straight == pytest.approx(straight_by_loops(image, PLAN, phantom_lines))


@pytest.mark.parametrize(("length", "seen"), [(RUN - 1, 0), (RUN, RUN)])
def test_seven_changes_on_end_are_no_seam(length, seen):
    """Eight are; outlines that cross a line are shorter."""
    image, line = np.zeros(PLAN.shape, np.uint8), seam_lines(PLAN.rows)[0]
    image[line:, 109 : 109 + length] = 1
    lines = len(seam_lines(PLAN.rows)) * PLAN.shape[1] + len(seam_lines(PLAN.cols)) * PLAN.shape[0]
    # The patch's upright sides are no lines of tiles.
    assert not {109, 109 + length} & set(seam_lines(PLAN.cols))
    assert seam_gradient_ratio(image, PLAN, 255).straight == pytest.approx(1000 * seen / lines)


def test_a_seam_at_every_cut_is_an_excess():
    """Labels that change on the tiles' lines and nowhere else have no phantom."""
    bands = np.searchsorted(seam_lines(PLAN.rows), np.arange(PLAN.shape[0]), side="right") % 2
    across, down = len(seam_lines(PLAN.rows)) * PLAN.shape[1], len(seam_lines(PLAN.cols)) * PLAN.shape[0]
    found = seam_gradient_ratio(np.broadcast_to(bands[:, None], PLAN.shape), PLAN, 255)
    # Every pixel of the lines across, none of the lines down.
    assert found.excess == found.straight == pytest.approx(1000 * across / (across + down))
    assert (found.ratio, found.phantom) == (math.inf, 0)


def test_one_tile_has_no_seams():
    """No line, no number."""
    assert np.isnan(seam_gradient_ratio(patches(0, (32, 32)), TilePlan((32, 32), (32, 32), (8, 8), 4), 255)).all()
