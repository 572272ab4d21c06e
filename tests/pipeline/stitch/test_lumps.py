"""Borders that some tile does not see: who is believed, and what becomes of the masks that lie over them."""

import numpy as np
import pytest

from pipeline.stitch.contacts import Contacts
from pipeline.stitch.links import LIKE, Conflicts, Links, Lumps, Pairs, Segments
from pipeline.stitch.objects import resolve
from pipeline.stitch.queries import SURE, Rules
from pipeline.stitch.window import UNIT

CELLS = 100
FIRST, SECOND, OVER_BOTH = 0, 1, 1 << 16
"""Two things of a tile, and one of the next that lies over both."""


@pytest.mark.parametrize(("areas", "apart"), [((100, 100), True), ((5000, 100), True), ((5000, 5000), False)])
def test_small_things_that_touch_are_seldom_one(areas, apart):
    """Three to one for one object decide it for large things only."""
    none = np.zeros((0, 2), np.int64)
    contacts = Contacts(np.array([0]), np.array([1]), none[:, 0], none, none)
    contacts.split[:], contacts.merge[:] = 1, 3
    assert contacts.apart(np.array(areas)).tolist() == [apart]


def segments(*keys):
    """Segments that have half the word on each of their cells."""
    count = len(keys)
    numbers = [np.full(count, value, np.int64) for value in (SURE, CELLS, CELLS * UNIT // 2, CELLS * UNIT**2 // 4)]
    scores, areas, shares, own = numbers
    kinds = np.zeros((count, 8), np.int64)
    probs = np.where(np.arange(8) == 0, SURE, 0) * np.ones((count, 1), np.int64)
    return Segments(np.array(keys, np.uint64), scores, areas, kinds, probs, shares, own)


@pytest.fixture
def links():
    """Both things shared with the mask over both, alike enough to be one object with it."""
    ends = np.array([[FIRST, SECOND], [OVER_BOTH, OVER_BOTH]], np.uint64)
    pairs = Pairs(*ends, np.full(2, LIKE // 2), np.ones(2, bool), np.full(2, CELLS * UNIT**2 // 4))
    apart = Conflicts(np.array([FIRST], np.uint64), np.array([SECOND], np.uint64))
    return Links(segments(FIRST, SECOND, OVER_BOTH), pairs, apart, Lumps(np.array([OVER_BOTH], np.uint64)))


def test_a_lump_belongs_to_no_object(links):
    """The things that it lies over do."""
    objects = resolve(links, Rules(), 1)
    numbers = objects.numbers_of(np.array([FIRST, SECOND, OVER_BOTH], np.uint64))
    assert numbers.tolist() == [1, 2, 0]


def test_a_lump_is_a_sight_of_what_it_lies_over(links):
    """Its tile has seen that something is there: the things do not lose votes by it."""
    assert resolve(links, Rules(), 1).votes.tolist() == [SURE, SURE]
