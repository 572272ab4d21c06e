"""Which things of a tile touch."""

import numpy as np
import pytest

from pipeline.stitch.contacts import touching


def row(*cells, lines=3):
    """Things (h, w) whose lines are all alike; -1 where there is none."""
    return np.tile(np.array(cells, np.int32), (lines, 1))


def pairs(things):
    """The pairs that touch, along rows and along columns alike."""
    found = [list(zip(*(ends.tolist() for ends in touching(lines)), strict=True)) for lines in (things, things.T)]
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(("gap", "touch"), [(0, True), (2, True), (3, False)])
def test_things_touch_across_a_narrow_gap(gap, touch):
    """Of two cells at the most."""
    assert pairs(row(4, *[-1] * gap, 1)) == ([(1, 4)] if touch else [])


def test_a_thing_between_two_others_keeps_them_from_touching():
    """Each touches the one in the middle."""
    assert pairs(row(0, 1, 2)) == [(0, 1), (1, 2)]


@pytest.mark.parametrize(("lines", "touch"), [(2, False), (3, True)])
def test_a_few_contacts_are_chance(lines, touch):
    """Three are needed."""
    assert bool(pairs(row(0, 1, lines=lines))) is touch
