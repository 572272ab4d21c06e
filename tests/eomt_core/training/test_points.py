"""Masks are read at a few places: most where they are undecided, half of them near the objects."""

import pytest
import torch
from torch import Tensor

from eomt_core.training.points import (
    UNCERTAIN,
    at_masks,
    boxes,
    known_at,
    match_places,
    places_in,
    sample,
    seen_together,
    uncertain_places,
)
from eomt_core.training.targets import Objects


def rectangle(top: int, left: int, rows: int, cols: int) -> Tensor:
    """A mask (16, 16)."""
    mask = torch.zeros(16, 16)
    mask[top : top + rows, left : left + cols] = 1
    return mask


def ramp(count: int = 3) -> Tensor:
    """Logits (N, 8, 8) that rise with the column through 0 in the middle."""
    return (torch.arange(8) - 3.5).expand(count, 8, 8).contiguous()


def inside(places: Tensor, box: Tensor) -> Tensor:
    """Which places (P, 2) lie in a box (2, 2)."""
    return ((places >= box[0]) & (places <= box[1])).all(-1)


def test_places_are_x_and_y_of_pixel_centres() -> None:
    """At the centre of row 1 and column 3 of a 2 x 5 map its own value is read, of every channel."""
    maps = torch.arange(20.0).reshape(1, 2, 2, 5)
    place = torch.tensor([[[3.5 / 5, 1.5 / 2]]])
    assert sample(maps, place)[0, :, 0].tolist() == pytest.approx(maps[0, :, 1, 3].tolist())


def test_between_pixels_the_value_is_between() -> None:
    """Halfway between two columns the mean is read."""
    maps = torch.tensor([[[[2.0, 6.0], [2.0, 6.0]]]])
    assert sample(maps, torch.tensor([[[0.5, 0.5]]])).item() == pytest.approx(4)


def test_a_place_is_known_when_all_around_it_is() -> None:
    """Beside an unknown pixel nothing counts, at the edge of the crop everything does."""
    known = torch.ones(1, 4, 4)
    known[0, 1, 1] = 0
    places = torch.tensor([[[1.5, 1.5], [2.4, 1.5], [2.5, 1.5], [3.0, 3.0], [0.0, 4.0]]]) / 4
    assert known_at(known, places).tolist() == [[0, 0, 1, 1, 1]]


def test_boxes_lie_around_masks() -> None:
    """A mask of 4 rows and 8 columns has a box of 6 by 12, which ends at the crop's edge; x comes before y."""
    found = boxes(torch.stack([rectangle(6, 4, 4, 8), rectangle(0, 12, 4, 4)])) * 16
    assert found.tolist() == [[[2, 5], [14, 11]], [[11, 0], [16, 5]]]


def test_a_mask_without_pixels_has_places_too() -> None:
    """Nothing is divided by its size."""
    places = places_in(boxes(torch.zeros(1, 16, 16)), 10)
    assert places.min() >= 0
    assert places.max() <= 1


def test_half_of_the_places_of_a_crop_are_near_its_objects() -> None:
    """Of 400 places half lie in the boxes of two small objects, about as many in either."""
    masks = torch.stack([rectangle(0, 0, 2, 2), rectangle(12, 12, 2, 2)])
    torch.manual_seed(0)
    places = match_places(masks, 400)[0]
    near = [inside(places, box).sum().item() for box in boxes(masks)]
    assert places.shape == (400, 2)
    assert 200 <= sum(near) < 240
    assert min(near) > 70


def test_most_places_are_where_the_mask_is_undecided() -> None:
    """Three quarters lie nearer to the change of sign than nearly all of the others do."""
    logits, count = ramp(), 64
    torch.manual_seed(0)
    places = uncertain_places(logits, rectangle(0, 0, 16, 16).expand(3, -1, -1), count)
    distance = sample(logits[:, None], places)[:, 0].abs()
    certain = int(UNCERTAIN * count)
    assert places.shape == (3, count, 2)
    assert places.min() >= 0
    assert places.max() <= 1
    assert distance[:, :certain].max() < 1.5
    assert distance[:, certain:].mean() > 1.5


def test_places_of_a_mask_are_near_its_object() -> None:
    """Where a mask is as undecided here as there, half of the places and a few lie in the box of its own object."""
    wanted = torch.stack([rectangle(4, 4, 3, 3), rectangle(10, 10, 3, 3)])
    torch.manual_seed(0)
    places = uncertain_places(torch.randn(2, 32, 32), wanted, 200)
    for own, box in zip(places, boxes(wanted), strict=True):
        assert 80 < inside(own, box).sum() < 130


def test_unknown_places_are_not_kept_for_being_undecided() -> None:
    """Where the truth of the undecided columns is not known, the nearest known ones are looked at instead."""
    logits, known = ramp(1), torch.ones(1, 16, 16)
    known[:, :, 4:12] = 0
    torch.manual_seed(0)
    places = uncertain_places(logits, rectangle(0, 0, 16, 16)[None], 40, known)
    assert known_at(known, places[:, : int(UNCERTAIN * 40)]).all()


@pytest.fixture
def objects() -> Objects:
    """One object of 8 rows and 6 columns, in a crop whose last column is not known."""
    known = torch.ones(16, 16)
    known[:, 15] = 0
    return Objects(rectangle(0, 0, 8, 6)[None], torch.zeros(1, dtype=torch.int64), known)


def test_cells_hold_the_share_that_masks_cover(objects: Objects) -> None:
    """A cell of 4 x 4 pixels of which 8 are covered counts a half; of what is known, too, there is the share."""
    found = at_masks(objects, torch.Size((4, 4)), 16)
    assert found.masks[0].tolist() == [[1, 0.5, 0, 0], [1, 0.5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found.known.tolist() == [[1, 1, 1, 0.75]] * 4


def test_objects_stay_as_they_are_for_large_masks(objects: Objects) -> None:
    """Where masks have more cells than there are places, places are read off the pixels themselves."""
    assert at_masks(objects, torch.Size((4, 4)), 15) is objects
    assert at_masks(objects, torch.Size((16, 16)), 1000) is objects


def test_no_objects_have_cells_too(objects: Objects) -> None:
    """A crop without objects is none of a special kind."""
    nothing = Objects(objects.masks[:0], objects.classes[:0], objects.known)
    assert at_masks(nothing, torch.Size((4, 4)), 16).masks.shape == (0, 4, 4)


def test_small_masks_are_seen_as_a_whole(objects: Objects) -> None:
    """Masks of no more cells than places are compared cell by cell; a cell that is known in part does not count."""
    logits, truth, counts = seen_together(ramp(2), at_masks(objects, torch.Size((8, 8)), 64), 64)
    assert torch.equal(logits, ramp(2).flatten(1))
    assert truth.sum() == 12
    assert counts.reshape(8, 8).sum(0).tolist() == [8] * 7 + [0]
    assert [part.shape[-1] for part in seen_together(ramp(2), objects, 63)] == [63] * 3
