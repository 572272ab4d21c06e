"""What the segments of a cluster say together, in integers."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch.links import Segments

COUNTERS = 2**22
"""Sums of a cluster and a class that are made at a time: so many classes may have any number of clusters."""


def total(cluster_of: NDArray[np.int64], values: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The sum of each cluster's values, (count,), exact."""
    found = np.zeros(count, np.int64)
    np.add.at(found, cluster_of, values)
    return found


def likeliest_classes(segments: Segments, cluster_of: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Each cluster's likeliest class, (count,), every segment counting by area and score; the lower of equal ones."""
    kinds = int(segments.classes.max(initial=0)) + 1
    some = max(1, COUNTERS // kinds)
    order = np.argsort(cluster_of, kind="stable")
    bounds = np.searchsorted(cluster_of[order], np.arange(0, count + some, some))
    classes = np.zeros(count, np.int64)
    for low, (start, stop) in zip(range(0, count, some), pairwise(bounds), strict=True):
        totals = np.zeros((min(some, count - low), kinds), np.int64)
        members = order[start:stop]
        weights = segments.areas[members] * segments.scores[members]
        for kind, prob in zip(segments.classes[members].T, segments.class_probs[members].T, strict=True):
            np.add.at(totals, (cluster_of[members] - low, kind), weights * prob)
        classes[low : low + some] = totals.argmax(1)
    return classes
