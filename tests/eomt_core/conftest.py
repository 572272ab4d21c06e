"""Tiny models with weights that make every mistake visible, in every spelling."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from small_dinov3 import PORT, eomt_dinov3, perturb, perturbed
from torch import Tensor

from eomt_core import EoMT
from eomt_core.card import Architecture
from eomt_core.recipes import RECIPES, Recipe, new_model
from eomt_core.shapes import expected_shapes

State = dict[str, Tensor]

TINY = Architecture(
    embed_dim=64,
    depth=4,
    num_heads=1,
    patch_size=16,
    image_size=(64, 64),
    in_channels=3,
    num_queries=5,
    num_classes=7,
    num_blocks=2,
    num_upscale=2,
    num_registers=4,
    cls_token=True,
    no_embed_class=True,
    swiglu=False,
    mlp_hidden=256,
    layer_scale=True,
)

STEM: dict[str, Any] = {"stem": (8, 12), "patch_size": 8, "num_upscale": 2, "mask_width": 24}
"""What a tiny model behind a stem has besides: masks at stride 2."""

SMALL = Recipe(
    stem=(8, 12),
    dim=32,
    depth=3,
    num_heads=2,
    num_blocks=2,
    num_upscale=2,
    mask_width=16,
    image_size=32,
    queries=9,
)


@pytest.fixture
def tiny() -> Callable[..., Architecture]:
    """Make the architecture of a tiny model, with changes."""
    return lambda **changes: Architecture(**(asdict(TINY) | changes))


@pytest.fixture
def with_stem(tiny: Callable[..., Architecture]) -> Callable[..., Architecture]:
    """Make the architecture of a tiny model behind a stem, with changes."""
    return lambda **changes: tiny(**(STEM | changes))


@pytest.fixture
def small_recipe(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a recipe that trains in milliseconds: patches of 8 pixels, a 4 x 4 grid, masks at stride 2."""
    monkeypatch.setitem(RECIPES, "hybrid-small", SMALL)
    return "hybrid-small"


@pytest.fixture
def make_small(small_recipe: str) -> Callable[..., EoMT]:
    """Make a model by that recipe, for 3 classes of one query each unless told otherwise."""

    def make(num_classes: int = 3, *, semantic: bool = True, seed: int = 0, **options: Any) -> EoMT:
        torch.manual_seed(seed)
        return new_model(small_recipe, num_classes, semantic=semantic, **options)

    return make


@pytest.fixture
def make_state() -> Callable[..., State]:
    """Draw the weights of an architecture, by own name, with masks off."""

    def make(architecture: Architecture = TINY, seed: int = 0) -> State:
        generator = torch.Generator().manual_seed(seed)
        shapes = expected_shapes(architecture)
        state = {name: perturb(name, torch.empty(shape), generator) for name, shape in shapes.items()}
        return state | {"attn_mask_probs": torch.zeros(architecture.num_blocks)}

    return make


@pytest.fixture
def make_huggingface() -> Callable[..., Any]:
    """Make a small EoMT of the transformers library: 160 x 160, 20 queries, 3 of 5 blocks, 7 classes, heads of 32."""
    transformers = pytest.importorskip("transformers", reason="transformers is the oracle of this test")

    def make(probs: tuple[float, ...] = (0.0, 0.0, 0.0), **changes: object) -> Any:
        config = transformers.EomtConfig(**(PORT | changes))
        return perturbed(transformers.EomtForUniversalSegmentation(config), probs)

    return make


@pytest.fixture
def make_dinov3() -> Callable[..., Any]:
    """Make a small EoMT of the transformers library whose encoder is a DINOv3, of the same sizes."""
    pytest.importorskip("transformers", reason="transformers is the oracle of this test")
    return eomt_dinov3


@pytest.fixture
def huggingface_directory(make_huggingface: Callable[..., Any], tmp_path: Path) -> Path:
    """A directory as `save_pretrained` writes it."""
    make_huggingface().save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"
