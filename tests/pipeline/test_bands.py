"""Which bands the model sees."""

import re

import pytest

from pipeline.errors import InputError
from pipeline.rasters.bands import Band, choose_bands

RGBA = [Band(1, "red"), Band(2, "green"), Band(3, "blue"), Band(4, "alpha")]
SENTINEL = [
    Band(1, "gray", "B02"),
    Band(2, "undefined", "B03"),
    Band(3, "undefined", "B04"),
    Band(4, "undefined", "B08"),
]
PALETTE = [Band(1, "palette")]


@pytest.mark.parametrize(
    ("text", "found", "chosen"),
    [
        (None, RGBA, (1, 2, 3)),
        ("3,2,1", RGBA, (3, 2, 1)),
        ("blue, Green,RED", RGBA, (3, 2, 1)),
        ("B04,B03,B02", SENTINEL, (3, 2, 1)),
        ("b08,2,B02", SENTINEL, (4, 2, 1)),
        ("1,1,1", PALETTE, (1, 1, 1)),
    ],
)
def test_bands_are_chosen_by_number_color_and_description(text, found, chosen):
    """The order is the user's, repeats are allowed, and alpha is left out by default."""
    assert choose_bands(text, found, 3) == chosen


def test_a_description_beats_a_color():
    """A band that is called red is red, whatever its colour interpretation says."""
    found = [Band(1, "red", "nir"), Band(2, "green", "red"), Band(3, "blue", "green")]
    assert choose_bands("red,red,red", found, 3) == (2, 2, 2)


def test_the_card_orders_the_bands():
    """A model that was trained on blue, green, red gets them in that order."""
    assert choose_bands(None, RGBA, 3, default=["blue", "green", "red"]) == (3, 2, 1)


@pytest.mark.parametrize("card", [["red", "green", "nir"], [1, 2, 9], ["red"], [2, 3, 4]])
def test_a_card_that_does_not_fit_gives_way_to_the_first_bands(card):
    """Names that the file does not know, and alpha, are no reason to stop."""
    assert choose_bands(None, RGBA, 3, default=card) == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "found", "words"),
    [
        (None, RGBA[:2], "has 2 bands, the model takes 3.*--bands 1,1,1"),
        (None, RGBA[:2] + RGBA[3:], "2 bands besides alpha.*--bands 1,1,1"),
        (None, PALETTE, "1 band of palette indexes.*--bands 1,1,1"),
        ("1,2", RGBA, "2 given, the model takes 3.*--bands 1,1,1"),
        ("1,2,5", RGBA, "no such band; it has 1 red, 2 green, 3 blue, 4 alpha"),
        ("1,2,0", RGBA, "no such band"),
        ("1,2,-1", RGBA, "no such band"),
        ("B04,B03,B01", SENTINEL, "no such band; it has 1 B02"),
        ("1,,2", RGBA, "no such band"),
        ("1,2,4", RGBA, "is alpha, never a band.*colorinterp_4"),
    ],
)
def test_what_cannot_be_chosen_says_what_can(text, found, words):
    """One line with the value and the remedy."""
    with pytest.raises(InputError) as error:
        choose_bands(text, found, 3)
    assert re.search(words, str(error.value))
    assert "\n" not in str(error.value)
