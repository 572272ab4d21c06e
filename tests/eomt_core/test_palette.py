"""A model whose answer is known by arithmetic: nearest colour, cell by cell."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eomt_core import describe_model, load_model
from eomt_core.errors import ModelError
from eomt_core.palette import SHARPNESS, PaletteModel, save_palette
from eomt_core.postprocess import fold_scores

COLOURS = [[0.1, 0.1, 0.1], [0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]]


def best(model, pixels):
    """The best class per cell."""
    return fold_scores(model(pixels)).argmax(1)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_cell_gets_the_nearest_colour(seed):
    """Of its mean, wherever any mask is near; computed here by hand."""
    pixels = torch.rand((1, 3, 16, 32), generator=torch.Generator().manual_seed(seed))
    cells = pixels.reshape(1, 3, 4, 4, 8, 4).mean((3, 5))
    distance = (cells[:, None] - torch.tensor(COLOURS)[None, :, :, None, None]).square().sum(2)
    logits = PaletteModel(torch.tensor(COLOURS))(pixels).mask_logits
    assert (logits.argmax(1) == distance.argmin(1)).all()
    torch.testing.assert_close(logits, 8 - SHARPNESS * distance, rtol=1e-4, atol=1e-3)


def test_each_query_says_one_class():
    """Its own, and nothing is left for "no object"."""
    masks = PaletteModel(torch.tensor(COLOURS))(torch.zeros(2, 3, 16, 16))
    probs = masks.class_logits.softmax(-1)
    assert probs.shape == (2, 4, 5)
    assert (probs.diagonal(dim1=1, dim2=2) > 0.999).all()


def test_far_from_all_colours_no_class_has_a_score():
    """So that a mosaic of it is unlabelled."""
    scores = fold_scores(PaletteModel(torch.tensor(COLOURS))(torch.ones(1, 3, 16, 16)))
    assert (scores < 1e-3).all()


def test_the_answer_for_a_part_is_the_part_of_the_answer():
    """Which is what makes it a witness for tiling."""
    model, pixels = PaletteModel(torch.tensor(COLOURS)), torch.rand((1, 3, 64, 64))
    assert torch.equal(model(pixels).mask_logits[..., 4:12, 8:12], model(pixels[..., 16:48, 32:48]).mask_logits)


@pytest.mark.parametrize(("stride", "lattice"), [(4, 16), (8, 32), (7, 14), (16, 16)])
def test_a_saved_model_is_the_same_when_loaded(tmp_path, stride, lattice):
    """Its stride and lattice too: nothing may assume 4 and 16."""
    save_palette(tmp_path / "m", COLOURS, stride=stride, lattice=lattice, tile=10 * lattice)
    loaded, pixels = load_model(tmp_path / "m"), torch.rand((1, 3, 2 * lattice, 3 * lattice))
    assert (loaded.stride, loaded.min_multiple) == (stride, lattice)
    expected = PaletteModel(torch.tensor(COLOURS), stride, lattice)(pixels)
    assert torch.equal(loaded(pixels).mask_logits, expected.mask_logits)
    assert loaded(pixels).stride == stride


def test_a_saved_model_describes_itself_without_torch(tmp_path):
    """Names, bands and tile size are on its card."""
    info = describe_model(save_palette(tmp_path / "m", COLOURS, ["ground", "roof", "tree", "water"], tile=256))
    assert info.card.classes == ("ground", "roof", "tree", "water")
    assert info.card.tasks == ("semantic",)
    assert info.architecture.image_size == (256, 256)
    assert (info.architecture.in_channels, info.architecture.num_classes, info.parameters) == (3, 4, 12)


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_any_number_of_bands(tmp_path, bands):
    """A colour has as many values as the raster has bands."""
    colours = np.eye(bands + 1, bands).tolist()
    loaded = load_model(save_palette(tmp_path / "m", colours))
    pixels = torch.tensor(colours)[bands - 1].reshape(1, bands, 1, 1).expand(1, bands, 16, 16)
    assert (best(loaded, pixels) == bands - 1).all()


def test_other_colours_are_another_model(tmp_path):
    """The hash is of the weights and the card."""
    hashes = {
        describe_model(save_palette(tmp_path / str(index), colours, stride=stride)).sha256()
        for index, (colours, stride) in enumerate([(COLOURS, 4), (COLOURS[::-1], 4), (COLOURS, 8)])
    }
    assert len(hashes) == 3


def test_without_its_card_a_palette_is_nothing(tmp_path):
    """The stride is written nowhere else."""
    (save_palette(tmp_path / "m", COLOURS) / "eomt_batch.json").unlink()
    with pytest.raises(ModelError, match="needs its card"):
        load_model(tmp_path / "m")
