"""Models by name, from a random start."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eomt_core import EoMT, ModelError, load_model, save_model
from eomt_core.card import ModelCard
from eomt_core.checkpoint import architecture_of
from eomt_core.encoders.timm_vit import TimmViT
from eomt_core.recipes import RECIPES, new_model, spread_queries

MakeSmall = Callable[..., EoMT]


def answer(model: EoMT, size: int) -> torch.Tensor:
    """Mask logits for noise."""
    bands = model.encoder.in_channels
    with torch.no_grad():
        return model.eval()(torch.rand(1, bands, size, size, generator=torch.Generator().manual_seed(0))).mask_logits


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("semantic", [True, False])
def test_models_are_what_their_recipe_says(name: str, semantic: bool) -> None:
    """Widths, depth, strides and queries are the recipe's, with fewer than 3 million parameters."""
    recipe, model = RECIPES[name], new_model(name, 4, semantic=semantic)
    found = architecture_of(model)
    assert (found.stem, found.embed_dim, found.depth) == (recipe.stem, recipe.dim, recipe.depth)
    assert (found.num_heads, found.num_blocks, found.mask_width) == (
        recipe.num_heads,
        recipe.num_blocks,
        recipe.mask_width,
    )
    assert found.image_size == (recipe.image_size, recipe.image_size)
    assert (model.min_multiple, model.stride) == (2 ** (len(recipe.stem) + 1), found.stride)
    assert model.num_q == (4 if semantic else recipe.queries)
    assert sum(weight.numel() for weight in model.parameters()) < 3e6


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_saved_recipes_come_back(name: str, tmp_path: Path) -> None:
    """Four bands, their statistics and every weight survive a save, bit for bit."""
    model = new_model(name, 2, semantic=True, in_channels=4, image_size=64, mean=(0.1, 0.2, 0.3, 0.4), std=(0.5,) * 4)
    model.train()(torch.rand(2, 4, 64, 64))  # so that running statistics are not those of a fresh model
    save_model(model, tmp_path, ModelCard("m", ("a", "b"), mean=(0.0,) * 4, std=(1.0,) * 4))
    back = load_model(tmp_path)
    assert isinstance(back, EoMT)
    found, wanted = back.state_dict(), model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[part], wanted[part]) for part in wanted)
    assert torch.equal(answer(back, 96), answer(model, 96))


def test_the_seed_decides_the_weights(make_small: MakeSmall) -> None:
    """The same seed makes the same model."""
    first, again, other = (make_small(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["q.weight"], other["q.weight"])


def test_other_names_are_timms() -> None:
    """A timm architecture gets queries: one per class, or 100 that compete."""
    sizes: dict[str, Any] = {"in_channels": 1, "image_size": 32, "mean": (0.2,), "std": (0.1,)}
    semantic, instance = (new_model("vit_tiny_patch16_224", 5, semantic=kind, **sizes) for kind in (True, False))
    assert (semantic.num_q, instance.num_q, semantic.num_classes) == (5, 100, 5)
    assert isinstance(semantic.encoder, TimmViT)
    assert (semantic.encoder.training_size, semantic.encoder.in_channels) == ((32, 32), 1)
    assert (semantic.encoder.pixel_mean.item(), semantic.encoder.pixel_std.item()) == pytest.approx((0.2, 0.1))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hybrid-tiny", {"image_size": 40}, "training size 40 is no multiple of 16"),
        ("no-such-thing", {}, "knows no architecture 'no-such-thing'"),
        ("hybrid-tiny", {"mean": (0.1,)}, "one value per channel: 3, got 1"),
        ("deit_tiny_distilled_patch16_224", {}, r"other parts than our files describe.* vit_small_patch16_224"),
        ("vit_medium_patch16_gap_256", {}, r"other parts than our files describe.* vit_small_patch16_224"),
        ("eva02_tiny_patch14_224", {}, r"other parts than our files describe.* vit_small_patch16_dinov3_qkvb"),
        ("vit_small_patch16_dinov3", {}, r"no biases.* vit_small_patch16_dinov3_qkvb"),
    ],
)
def test_what_cannot_be_made_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    """One line says what is wrong."""
    with pytest.raises(ModelError, match=message):
        new_model(name, 3, semantic=True, **options)


def test_queries_that_compete_start_at_places(make_small: MakeSmall) -> None:
    """Query (i, j) of the 3 x 3 is most like the position of the 4 x 4 grid that lies nearest to its place."""
    model = make_small(1, semantic=False)
    table = model.get_parameter("encoder.backbone.pos_embed")[0]
    likeness = nn.functional.cosine_similarity(model.q.weight[:, None], table[None], dim=2)
    rows, cols = likeness.argmax(1) // 4, likeness.argmax(1) % 4
    places = torch.tensor([(i, j) for i in range(3) for j in range(3)]).add(0.5) / 3
    found = torch.stack([rows, cols], 1).add(0.5) / 4
    assert (found - places).abs().max() < 0.25


def test_queries_of_classes_start_anywhere(make_small: MakeSmall) -> None:
    """Neither those of classes nor a number that is no square is laid out."""
    model = make_small(1, semantic=False)
    odd = EoMT(model.encoder, 1, num_q=7, num_blocks=2)
    before = odd.q.weight.clone()
    spread_queries(odd)
    assert torch.equal(odd.q.weight, before)
