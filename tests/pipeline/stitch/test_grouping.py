"""Borders that some tile does not see: who is believed, and what becomes of the masks that lie over them."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.stitch.covers import Covers
from pipeline.stitch.links import LIKE, Borders, Links, Pairs, Segments
from pipeline.stitch.objects import resolve
from pipeline.stitch.queries import SURE, Rules
from pipeline.stitch.window import UNIT

TILE = 128**2
SMALL, MIDDLE, LARGE = 2 * 30**2, 2 * 40**2, 2 * 100**2
"""Cells of a segment, of which its tile has half the word: seldom split, often split, and more than half a tile."""


def key(tile, segment=0):
    """Of a segment."""
    return tile << 16 | segment


def segments(keys, area, kinds):
    """Segments that have half the word on each of their cells."""
    count = len(keys)
    numbers = [np.full(count, value, np.int64) for value in (SURE, area, area * UNIT // 2, area * UNIT**2 // 4)]
    scores, areas, shares, own = numbers
    classes = np.array(kinds)[:, None] + np.arange(8)
    probs = np.where(np.arange(8) == 0, SURE, 0) * np.ones((count, 1), np.int64)
    return Segments(np.array(keys, np.uint64), scores, areas, classes, probs, shares, own)


def links(borders, covers, area=MIDDLE, kinds=None, whole=False):
    """Segments of several tiles: pairs that touch in one, (first, second), and others over them, (first, second, over).

    What is over two things is linked to both, to the first the better.
    """
    borders, covers = np.array(borders, np.uint64), np.array(covers, np.uint64).reshape(-1, 3)
    keys = np.unique(np.concatenate([borders.ravel(), covers.ravel()]))
    ends = np.concatenate([covers[:, [0, 2]], covers[:, [1, 2]]])
    likeness = np.repeat([LIKE, LIKE // 2], len(covers))
    pairs = Pairs(*ends.T, likeness, np.ones(len(ends), bool), np.full(len(ends), area * UNIT**2 // 4))
    told = segments(keys, area, [0] * len(keys) if kinds is None else kinds)
    return Links(told, pairs, Borders(*borders.T), Covers(*covers.T, np.full(len(covers), whole)))


def linked(found, *more):
    """The same with more links, (first, second, likeness)."""
    first, second, likeness = (np.array(column) for column in zip(*more, strict=True))
    count = len(likeness)
    same = Pairs(
        first.astype(np.uint64), second.astype(np.uint64), likeness, np.ones(count, bool), np.zeros(count, int)
    )
    return replace(found, pairs=Pairs(*map(np.concatenate, zip(found.pairs, same, strict=True))))


def numbers(found, *keys):
    """The objects of some segments."""
    return resolve(found, Rules(), 1, TILE).numbers_of(np.array(keys, np.uint64)).tolist()


ONE, TWO = (key(0), key(0, 1)), (key(5), key(5, 1))
"""What two tiles see of both sides of a border."""


def test_what_one_tile_splits_and_two_others_do_not_is_one():
    """Tiles are counted: the border is made up."""
    assert numbers(links([ONE], [(*ONE, key(1)), (*ONE, key(2))]), *ONE) == [1, 1]


def test_what_two_tiles_tell_apart_is_two_whoever_joins_it():
    """One tile's mask lies over both; two see the border, and agree which side is which."""
    found = linked(links([ONE, TWO], [(*ONE, key(1))]), *((one, two, LIKE) for one, two in zip(ONE, TWO, strict=True)))
    assert numbers(found, *ONE, *TWO) == [1, 2, 1, 2]


def test_a_tile_that_sees_a_border_in_two_pieces_counts_once():
    """One side is in two parts there, which another tile sees as one."""
    part, other, side, whole = key(0), key(0, 1), key(0, 2), key(3)
    found = links(
        [(part, side), (other, side), (whole, key(3, 1))], [(part, side, key(1)), (part, side, key(2))], SMALL
    )
    found = linked(found, (part, whole, LIKE), (other, whole, LIKE))
    assert numbers(found, part, other, side) == [1, 1, 1]


def test_what_lies_over_a_border_that_is_none_is_no_lump():
    """Though others see it whole: it is the object."""
    found = links([ONE], [(*ONE, key(1)), (*ONE, key(2))], whole=True)
    assert numbers(found, *ONE, key(1), key(2)) == [1, 1, 1, 1]


@pytest.mark.parametrize(("area", "objects"), [(SMALL, [1, 2]), (MIDDLE, [1, 1]), (LARGE, [1, 2])])
def test_where_one_tile_says_two_and_one_says_one_size_decides(area, objects):
    """Small things are seldom seen as two, and very large ones are no part of another."""
    assert numbers(links([ONE], [(*ONE, key(1))], area), *ONE) == objects


def test_parts_of_different_classes_are_two_if_tiles_do_not_agree():
    """One says one, one says two."""
    assert numbers(links([ONE], [(*ONE, key(1))], kinds=[0, 1, 0]), *ONE) == [1, 2]


def test_tiles_are_counted_again_after_each_reunion():
    """Three in a row: the tile that splits the first two sees the third beside both, and others see all as one."""
    row = [(key(0), key(0, 1)), (key(0, 1), key(0, 2)), (key(0), key(0, 2))]
    covers = [(*pair, key(tile)) for pair in row[:2] for tile in (1, 2)]
    assert numbers(links(row, covers), key(0), key(0, 1), key(0, 2)) == [1, 1, 1]


@pytest.fixture
def lump():
    """Two small things, and a mask over both that their tile sees whole."""
    return links([ONE], [(*ONE, key(1))], SMALL, whole=True)


def test_a_lump_belongs_to_no_object(lump):
    """The things that it lies over do."""
    assert numbers(lump, *ONE, key(1)) == [1, 2, 0]


def test_a_lump_is_joined_with_nothing():
    """Not even with what touches it in its own tile, where others see it and that as one."""
    lump, beside = key(7), key(7, 1)
    covers = [(*ONE, lump), (*TWO, lump), (lump, beside, key(8)), (lump, beside, key(9))]
    found = linked(links([ONE, TWO, (lump, beside)], covers, whole=True), (key(8), key(9), LIKE))
    found = linked(found, *((one, two, LIKE) for one, two in zip(ONE, TWO, strict=True)))
    assert numbers(found, *ONE, lump, beside) == [1, 2, 0, 3]


def test_a_lump_is_a_sight_of_what_it_lies_over(lump):
    """Its tile has seen that something is there: the things do not lose votes by it."""
    assert resolve(lump, Rules(), 1, TILE).votes.tolist() == [SURE, SURE]


def test_a_mask_over_two_that_nobody_else_sees_whole_goes_to_the_likelier():
    """What only it shows would be lost."""
    assert numbers(links([ONE], [(*ONE, key(1))], SMALL), *ONE, key(1)) == [1, 2, 1]


def test_the_order_of_what_is_said_changes_nothing():
    """Blocks of tiles may come in any order."""
    three, both = (key(9), key(9, 1)), key(11)
    found = links(
        [ONE, TWO, three, (both, key(11, 1))], [(*ONE, key(1)), (*ONE, key(2)), (*TWO, key(6)), (*TWO, key(7))]
    )
    found = linked(found, *((side, both, LIKE) for side in three))  # as likely the one as the other
    turned = Links(
        found.segments,
        Pairs(*(column[::-1] for column in found.pairs)),
        Borders(*(column[::-1] for column in found.borders)),
        Covers(*(column[::-1] for column in found.covers)),
    )
    for one, other in zip(*(resolve(some, Rules(), 1, TILE) for some in (found, turned)), strict=True):
        np.testing.assert_array_equal(one, other)
