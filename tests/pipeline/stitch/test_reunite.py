"""Groups are joined by the lead of those who see one thing over those who see two."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stitch.reunite import SMALL, Group, Votes, reunite

COUNT, LARGE = 8, 10 * SMALL


def votes(said):
    """Votes (first, second, voter)."""
    return Votes(*np.array(said, np.int64).reshape(-1, 3).T)


def groups(areas, kinds):
    """Groups of some areas and classes."""
    return [Group(area, kind) for area, kind in zip(areas, kinds, strict=True)]


def plainly(areas, kinds, two, one):
    """The same as anyone would write it down: look at all pairs, join the best, and begin anew."""
    sets = [{place} for place in range(len(areas))]
    areas, kinds = list(areas), list(kinds)

    def lead(a, b):
        def said(voices):
            return len({v for p, q, v in voices if (p in sets[a] and q in sets[b]) or (q in sets[a] and p in sets[b])})

        ones, smaller = said(one), min(areas[a], areas[b])
        parts = kinds[a] == kinds[b] and SMALL <= smaller <= LARGE
        return (ones - said(two) or (0.5 if parts else 0)) if ones else 0

    while True:
        pairs = [(a, b) for a in range(len(sets)) for b in range(a + 1, len(sets)) if sets[a] and sets[b]]
        best = min(pairs, key=lambda pair: (-lead(*pair), pair), default=None)
        if best is None or lead(*best) <= 0:
            break
        a, b = best
        kinds[a] = kinds[a] if areas[a] >= areas[b] else kinds[b]
        areas[a], sets[a], sets[b] = areas[a] + areas[b], sets[a] | sets[b], set()
    return [min(next(some for some in sets if place in some)) for place in range(len(areas))]


PLACES = st.integers(0, COUNT - 1)
SAID = st.lists(st.tuples(PLACES, PLACES, st.integers(0, 3)).filter(lambda vote: vote[0] != vote[1]), max_size=25)


@given(
    st.lists(st.integers(SMALL // 2, 12 * SMALL), min_size=COUNT, max_size=COUNT),
    st.lists(st.integers(0, 1), min_size=COUNT, max_size=COUNT),
    SAID,
    SAID,
)
@settings(max_examples=300, deadline=None)
def test_groups_are_joined_as_by_the_plain_algorithm(areas, kinds, two, one):
    """Whatever is said by whom, twice or once, in either direction."""
    found = reunite(groups(areas, kinds), votes(two), votes(one), LARGE)
    assert found.tolist() == plainly(areas, kinds, two, one)


def test_a_voter_who_repeats_himself_counts_once():
    """One tile with three borders between two groups, against two segments over both."""
    said = votes([(0, 1, 7), (1, 0, 7), (0, 1, 7)])
    found = reunite(groups([SMALL // 2] * 2, [0, 0]), said, votes([(0, 1, 8), (0, 1, 9)]), LARGE)
    assert found.tolist() == [0, 0]
