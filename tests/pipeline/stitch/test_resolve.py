"""Segments are joined along links, the strongest first, but never across what is known to be apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stitch.resolve import Edges, cluster


def edges(*pairs):
    """Edges from pairs of places."""
    return Edges(*np.array(pairs, np.int64).reshape(-1, 2).T)


def kruskal(count, links, apart):
    """The same, as anyone would write it down: sets, and a look at all pairs of them."""
    sets = [{place} for place in range(count)]
    for one, two in links:
        a, b = (next(some for some in sets if place in some) for place in (one, two))
        if a is not b and not any((p in a and q in b) or (p in b and q in a) for p, q in apart):
            sets.remove(b)
            a |= b
    return [min(next(some for some in sets if place in some)) for place in range(count)]


PAIRS = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] != pair[1]), max_size=30)


@given(PAIRS, PAIRS, st.integers(1, 31))
@settings(max_examples=300, deadline=None)
def test_clusters_equal_those_of_the_plain_algorithm(links, apart, at_once):
    """Whatever is linked, whatever is apart, and however many links are looked at at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.stitch.resolve.AT_ONCE", at_once)
        found, _ = cluster(12, edges(*links), edges(*apart))
    assert found.tolist() == kruskal(12, links, apart)


def test_the_weaker_link_to_a_segment_of_two_is_refused():
    """0 and 1 are apart, and 2 looks like both: it goes with the one it is more alike."""
    found, refused = cluster(3, edges((1, 2), (0, 2)), edges((0, 1)))
    assert found.tolist() == [0, 1, 1]
    assert refused == 1


def test_nothing_becomes_nothing():
    """A run without any object."""
    assert cluster(0, edges(), edges())[0].tolist() == []


def test_a_chain_of_a_hundred_thousand_tiles_is_one_object():
    """As a river is, and in a moment."""
    count = 100_000
    places = np.arange(count)
    found, _ = cluster(count, Edges(places[:-1], places[1:]), edges())
    assert not found.any()


@pytest.mark.parametrize("order", ["forward", "reversed", "shuffled"])
def test_a_contested_chain_is_cut_where_it_is_weakest(order):
    """One exclusion between its ends: the last link to be looked at is the one that is refused."""
    count = 2000
    places = np.arange(count - 1)
    places = {"forward": places, "reversed": places[::-1], "shuffled": np.random.default_rng(0).permutation(places)}[
        order
    ]
    found, refused = cluster(count, Edges(places, places + 1), edges((0, count - 1)))
    assert refused == 1
    assert np.unique(found).tolist() == [0, places[-1] + 1]
