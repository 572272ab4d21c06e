"""ViT and SimpleViT of vit-pytorch compute what the library computes, and go where it cannot."""

from typing import Any

import pytest
import torch
from torch import Tensor

from eomt_core import EoMT
from eomt_core.encoders import Encoder
from eomt_core.errors import ModelError, TileSizeError
from eomt_core.positions import resample_positions, sines

library = pytest.importorskip("vit_pytorch", reason="the extra vit-pytorch is not installed")
from eomt_core.encoders.vit_pytorch import VitPytorch  # noqa: E402  # it needs the extra

SIZES: dict[str, Any] = {"patch_size": 8, "num_classes": 1, "dim": 32, "depth": 3, "heads": 2, "mlp_dim": 64}
KINDS = {"ViT": {}, "ViT without class token": {"pool": "mean"}, "SimpleViT": {}}


def make_backbone(kind: str, image_size: tuple[int, int] = (80, 80), **changes: Any) -> Any:
    """A backbone of the library with every weight off its initial value."""
    torch.manual_seed(0)
    build = getattr(library, kind.split()[0])
    backbone = build(image_size=image_size, **(SIZES | {"dim_head": 12} | KINDS[kind] | changes)).eval()
    with torch.no_grad():
        for weight in backbone.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    return backbone


def make(kind: str, image_size: tuple[int, int] = (80, 80), **options: Any) -> VitPytorch:
    """An encoder that takes pixels as they are."""
    zeros = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    return VitPytorch(make_backbone(kind, image_size), image_size, **(zeros | options)).eval()


def transformed(backbone: Any, pixels: Tensor) -> Tensor:
    """What the library's own transformer gives on the way to the library's own answer."""
    seen: list[Tensor] = []
    backbone.transformer.register_forward_hook(lambda module, given, made: seen.append(made))
    backbone(pixels)
    return seen[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(80, 80), (40, 120)])
def test_features_equal_the_library_at_the_training_size(kind, size):
    """At the training size, square or not, features are those of a backbone that never met the adapter, to 1e-5."""
    pixels = torch.rand(2, 3, *size)
    with torch.no_grad():
        wanted = transformed(make_backbone(kind, size), pixels)
        encoder = make(kind, size)
        assert torch.allclose(encoder.features(pixels), wanted, atol=1e-5)
    encoder.self_test()
    assert isinstance(encoder, Encoder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_smaller_image_equals_a_backbone_made_for_it(kind):
    """A smaller image sees the table resampled to its grid, as a backbone made for that size with it would."""
    encoder, small = make(kind), make_backbone(kind, (40, 64))
    table = encoder.backbone.pos_embedding
    small.load_state_dict(
        {n: w for n, w in encoder.backbone.state_dict().items() if n != "pos_embedding"}, strict=False
    )
    positions = (
        sines((5, 8), (10, 10), 32, table.device)
        if kind == "SimpleViT"
        else resample_positions(table, (10, 10), (5, 8))
    )
    with torch.no_grad():
        small.pos_embedding.data = positions.detach()
        pixels = torch.rand(1, 3, 40, 64)
        assert torch.allclose(encoder.features(pixels), transformed(small, pixels), atol=1e-5)


def test_the_library_takes_smaller_images_with_the_wrong_rows():
    """The trap: the library reads a 5 x 8 image with the first 40 rows of a 10 x 10 table; the adapter does not."""
    backbone, pixels = make_backbone("ViT"), torch.rand(1, 3, 40, 64)
    with torch.no_grad():
        off = (make("ViT").features(pixels) - transformed(backbone, pixels)).abs().max()
    assert off > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_grid_of_equal_token_count_is_another_layout(kind):
    """40 x 160 pixels have as many patches as 80 x 80, and other positions."""
    encoder, wide = make(kind), torch.zeros(1, 3, 40, 160)
    with torch.no_grad():
        found, other = encoder.embed(wide), encoder.embed(torch.zeros(1, 3, 80, 80))
    assert found.grid == (5, 20)
    assert (found.tokens - other.tokens).abs().max() > 0.1


def test_sines_of_the_training_grid_are_the_library_own():
    """At the training grid the sines are those of vit-pytorch, to the last bit but one."""
    from vit_pytorch.simple_vit import posemb_sincos_2d

    assert torch.allclose(sines((5, 7), (5, 7), 32, torch.device("cpu")), posemb_sincos_2d(5, 7, 32), atol=1e-6)


def test_sines_span_the_training_range_unless_extrapolated():
    """A finer grid lies between the same borders; with `extrapolate` it goes on, as the library made for it would."""
    backbone = make_backbone("SimpleViT", (160, 160))
    extrapolating = make("SimpleViT", extrapolate=True)
    extrapolating.backbone.load_state_dict(backbone.state_dict(), strict=False)
    rescaling = make("SimpleViT")
    rescaling.backbone.load_state_dict(backbone.state_dict(), strict=False)
    pixels = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        wanted = transformed(backbone, pixels)
        assert torch.allclose(extrapolating.features(pixels), wanted, atol=1e-5)
        assert (rescaling.features(pixels) - wanted).abs().max() > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_masked_tokens_have_no_say(kind):
    """What a mask hides does not change what sees it: the mask is truly applied."""
    encoder = make(kind)
    tokens = torch.randn(1, 9, 32)
    changed = torch.cat((tokens[:, :8], torch.randn(1, 1, 32)), dim=1)
    mask = torch.zeros(1, 1, 9, 9)
    mask[..., :8, 8] = float("-inf")
    with torch.no_grad():
        one, other = (encoder.run_block(0, each, mask)[:, :8] for each in (tokens, changed))
        seen = encoder.run_block(0, changed)[:, :8]
    assert torch.equal(one, other)
    assert (one - seen).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_it_carries_queries(kind):
    """An EoMT on it answers at stride 4 for tiles of any size, and every parameter learns."""
    model = EoMT(make(kind), num_classes=3, num_q=5, num_blocks=2, num_upscale=1).train()
    out = model(torch.rand(1, 3, 40, 64))
    assert out.mask_logits.shape == (1, 5, 10, 16)
    (out.mask_logits.square().sum() + out.class_logits.square().sum()).backward()
    # Without a class token the library still keeps an empty one.
    assert all(weight.grad is not None for weight in model.parameters() if weight.numel())


def test_refusals_say_what_is_wrong():
    """Another class, oblong patches, a wrong training size and a tile off the lattice are each named."""
    with pytest.raises(ModelError, match="Linear is no ViT or SimpleViT"):
        VitPytorch(torch.nn.Linear(2, 2), (80, 80))
    with pytest.raises(ModelError, match="only square"):
        VitPytorch(make_backbone("ViT", patch_size=(8, 16)), (80, 80))
    with pytest.raises(ModelError, match="100 positions are no grid for 96x96"):
        VitPytorch(make_backbone("ViT"), (96, 96))
    with pytest.raises(TileSizeError, match="nearest valid size is 40x64"):
        make("ViT").embed(torch.zeros(1, 3, 41, 64))


def test_a_patch_tells_its_brightness_only_without_its_norm() -> None:
    """As vit-pytorch makes it, a flat dark image and a flat bright one are the same; without the norm they are not."""
    from eomt_core.recipes import new_model

    dark, bright = torch.full((1, 3, 64, 64), 0.2), torch.full((1, 3, 64, 64), 0.8)
    same = []
    for name in ("vit-pytorch", "vit-pytorch-raw"):
        torch.manual_seed(0)
        model = new_model(name, 3, semantic=True, image_size=64, mean=(0.5,) * 3, std=(0.25,) * 3).eval()
        with torch.no_grad():
            same.append(torch.allclose(model(dark).mask_logits, model(bright).mask_logits, atol=1e-4))
    assert same == [True, False]
