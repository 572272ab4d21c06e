"""The model without training: the same for the same seed, and alive."""

import torch

from eomt_core.postprocess import semantic
from eomt_core.untrained import untrained_eomt


def samples():
    """Four images of smooth random colours."""
    coarse = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(128, 128), mode="bicubic").clamp(0, 1)


def test_the_same_seed_gives_the_same_model():
    """Pictures and measurements can be repeated."""
    first, second = (untrained_eomt(samples(), 4, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_making_it_leaves_the_random_numbers_alone():
    """It draws its own."""
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    untrained_eomt(samples(), 4)
    assert torch.equal(torch.rand(3), expected)


def test_its_map_has_most_of_the_classes():
    """Fresh random weights would give one class everywhere."""
    labels = semantic(untrained_eomt(samples(), 4)(samples()), (128, 128))
    shares = torch.bincount(labels.flatten(), minlength=4) / labels.numel()
    assert (shares > 0.05).sum() >= 3


def test_it_takes_other_bands_and_tiles_that_are_not_square():
    """What it is made for is what it was shown."""
    model = untrained_eomt(torch.rand(2, 5, 96, 160), 3)
    assert model(torch.rand(1, 5, 96, 160)).mask_logits.shape == (1, 18, 24, 40)
