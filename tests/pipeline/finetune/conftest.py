"""A model small enough to be trained in a test, and scenes for it."""

import pytest
import torch
from small_training import RECIPE, write_pairs

from eomt_core.recipes import RECIPES


@pytest.fixture(autouse=True)
def recipe(monkeypatch):
    """`new:test`; and as many threads afterwards as before."""
    monkeypatch.setitem(RECIPES, "test", RECIPE)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def scenes(tmp_path):
    """Two scenes, a and b, of two classes in stripes: folders `images` and `labels`."""
    return write_pairs(tmp_path)
