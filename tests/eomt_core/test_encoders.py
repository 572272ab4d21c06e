"""Encoders compute what their backbones compute, at any size, or are refused with a reason."""

import copy
from typing import Any

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from eomt_core.encoders import Encoder, TimmViT, create_encoder, wrap
from eomt_core.encoders.adapter import IMAGENET_MEAN
from eomt_core.encoders.refusals import why_name_refused
from eomt_core.errors import ModelError, TileSizeError

TINY: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2}
SUPPORTED = {
    "vit_tiny_patch16_224": 1,
    "deit_tiny_patch16_224": 1,
    "deit_tiny_distilled_patch16_224": 2,
    "deit3_small_patch16_224": 1,
    "flexivit_small": 1,
    "vit_small_patch14_dinov2": 1,
    "vit_small_patch14_reg4_dinov2": 5,
    "vit_giant_patch14_reg4_dinov2": 5,
    "vit_base_patch16_siglip_256": 0,
    "vit_base_patch16_clip_224": 1,
    "vit_medium_patch16_gap_256": 0,
    "vit_medium_patch16_reg4_gap_256": 4,
    "vit_base_patch16_rpn_224": 0,
    "aimv2_large_patch14_224": 0,
    "vit_dpwee_patch16_reg1_gap_256": 1,
    "vit_small_patch16_dinov3_qkvb": 5,
    "vit_small_plus_patch16_dinov3_qkvb": 5,
    "eva02_tiny_patch14_224": 1,
    "eva_giant_patch14_224": 1,
    "vit_medium_patch16_rope_reg1_gap_256": 1,
    "vit_small_patch16_rope_mixed_ape_224": 1,
    "vit_pe_core_tiny_patch16_384": 1,
}
REFUSED = {
    "vit_relpos_small_patch16_224": "relative positions",
    "vit_srelpos_small_patch16_224": "relative positions",
    "beit_base_patch16_224": "relative position bias",
    "beitv2_base_patch16_224": "relative position bias",
    "samvit_base_patch16": "windowed attention",
    "hiera_tiny_224": "pools tokens",
    "sam2_hiera_tiny": "pools tokens",
    "swin_tiny_patch4_window7_224": "windows",
    "swinv2_tiny_window8_256": "windows",
    "cait_xxs24_224": "takes no mask",
    "xcit_nano_12_p16_224": "across channels",
    "convnext_atto": "convolutional",
    "vit_tiny_r_s16_p8_224": "convolutional",
    "naflexvit_base_patch16_gap": "coordinates",
    "vit_small_patch16_dinov3": "no biases",
    "vit_7b_patch16_dinov3": "no biases",
    "resnet18": "no plain vision transformer",
}


def perturb(module: nn.Module) -> None:
    """Move every weight off its initial value: zero biases and tiny layer scales hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)


def make_encoder(name: str = "vit_small_patch14_reg4_dinov2", **options) -> TimmViT:
    """A tested encoder of width 32 and two blocks, every weight off its initial value."""
    encoder = create_encoder(name, **{**TINY, **options}).eval()
    perturb(encoder)
    return encoder


@pytest.mark.parametrize("name", SUPPORTED)
def test_features_equal_the_backbone(name):
    """Block by block, masked by zeros or not, an encoder gives its backbone's own features; its prefix is known."""
    encoder = make_encoder(name)
    encoder.self_test()
    assert isinstance(encoder, Encoder)
    assert encoder.num_prefix == SUPPORTED[name]


@pytest.mark.parametrize("name", SUPPORTED)
def test_training_size_equals_the_untouched_backbone(name):
    """At the training size the features are those of a backbone that never met the adapter."""
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=0, **TINY).eval()
    perturb(backbone)
    encoder = create_encoder(name, **TINY).eval()
    encoder.backbone.load_state_dict(backbone.state_dict(), strict=False)  # without the head that it has dropped
    pixels = torch.rand(1, 3, *backbone.patch_embed.img_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = backbone.fc_norm(backbone.forward_features(encoder.normalise(pixels)))
        assert torch.allclose(encoder.features(pixels), wanted, atol=1e-5)


def test_self_test_catches_another_forward():
    """A backbone that does more than its parts is refused, with the size of the difference."""

    class Surprising(VisionTransformer):
        def forward_features(self, x, attn_mask=None, is_causal=False):
            return super().forward_features(x, attn_mask, is_causal) + 0.5

    with pytest.raises(ModelError, match=r"Surprising computes other features .*off by 0.5"):
        wrap(Surprising(img_size=32, num_classes=0, **TINY))


def test_self_test_leaves_no_trace():
    """The self-test keeps the training mode and draws no random numbers."""
    encoder = make_encoder().train()
    state = torch.get_rng_state()
    encoder.self_test()
    assert encoder.training
    assert encoder.backbone.blocks[0].training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    """An architecture that cannot carry queries is refused before it is built: its name, the reason, a way out."""
    with pytest.raises(ModelError, match=f"{name} cannot be used as an encoder: .*{REFUSED[name]}.*nearest") as caught:
        create_encoder(name)
    nearest = str(caught.value).rpartition(" ")[2]
    assert create_encoder(nearest, **TINY).dim == 32


def test_every_other_family_of_timm_is_refused_by_name():
    """No model is built to learn that it is no plain ViT; each refusal names what comes nearest, and that is one."""
    names = timm.list_models()
    modules = {name: timm.model_entrypoint(name).__module__.rpartition(".")[2] for name in names}
    refused = {name: why_name_refused(name) for name in names}
    assert {modules[name] for name in names if refused[name] is None} == {"vision_transformer", "deit", "eva"}
    nearest = {reason.rpartition("nearest that can: ")[2] for reason in refused.values() if reason}
    assert {why_name_refused(name) for name in nearest} == {None}


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        (nn.Linear(2, 2), "no timm VisionTransformer"),
        (VisionTransformer(img_size=32, patch_size=(16, 8), **TINY), "not square"),
        (timm.create_model("eva02_tiny_patch14_224", depth=1), "those of one grid"),
    ],
)
def test_refused_by_part(backbone, reason):
    """A module that lacks what a plain ViT has is refused for the missing part."""
    with pytest.raises(ModelError, match=reason):
        wrap(backbone)


def test_blocks_without_a_mask_are_refused():
    """A block that takes no attention mask cannot keep queries inside their masks."""

    class Maskless(nn.Module):
        def __init__(self, **_):
            super().__init__()

        def forward(self, x):
            return x

    with pytest.raises(ModelError, match="take no attention mask"):
        wrap(VisionTransformer(img_size=32, block_fn=Maskless, **TINY))


def test_unknown_names_and_options_are_refused():
    """What timm cannot make is a ModelError of one line."""
    with pytest.raises(ModelError, match="knows no architecture 'vit_imaginary'"):
        create_encoder("vit_imaginary")
    with pytest.raises(ModelError, match=r"vit_tiny_patch16_224 cannot be made .*colour"):
        create_encoder("vit_tiny_patch16_224", colour="red")


def test_grid_comes_from_the_input():
    """80 x 320 pixels have as many patches as 160 x 160 and another layout: other positions, other features."""
    encoder = make_encoder(image_size=160, patch_size=16)
    wide = torch.rand(1, 3, 80, 320)
    strips = wide.reshape(1, 3, 5, 16, 20, 16).transpose(3, 4).reshape(1, 3, 100, 16, 16)
    square = strips.reshape(1, 3, 10, 10, 16, 16).transpose(3, 4).reshape(1, 3, 160, 160)
    with torch.no_grad():
        (tokens, grid, *_), (others, *_) = encoder.embed(wide), encoder.embed(square)
        wanted = encoder.backbone.forward_features((wide - encoder.pixel_mean) / encoder.pixel_std)
        assert torch.allclose(encoder.features(wide), wanted, atol=1e-4)
    assert (grid, tokens.shape) == ((5, 20), others.shape)
    assert (tokens - others).abs().max() > 0.05


@pytest.mark.parametrize(
    ("size", "nearest"), [((165, 200), "160x208"), ((160, 1), "160x16"), ((0, 16), "16x16"), ((15, 39), "16x32")]
)
def test_tile_size_off_the_lattice(size, nearest):
    """A size that is no multiple of the patch is refused with the size, the multiple and the nearest valid one."""
    encoder = make_encoder(patch_size=16)
    with pytest.raises(TileSizeError, match=f"tile size {size[0]}x{size[1]}.*multiples of 16.* {nearest}"):
        encoder.embed(torch.zeros(1, 3, *size))


@pytest.mark.parametrize(
    "pixels", [torch.zeros(1, 4, 32, 32), torch.zeros(3, 32, 32), torch.zeros(1, 3, 32, 32).byte()]
)
def test_wrong_pixels_are_refused(pixels):
    """Other channels, a missing batch axis or integers are named, not broadcast."""
    with pytest.raises(ModelError, match=r"floats in \[0, 1\] of shape \(B, 3, H, W\)"):
        make_encoder(patch_size=16).embed(pixels)


def test_pixels_are_normalised_inside():
    """An image of exactly the mean colour is zero to the patch projection: only its bias remains."""
    encoder = make_encoder("vit_base_patch16_siglip_256")
    pixels = encoder.pixel_mean.expand(1, 3, 32, 32)
    with torch.no_grad():
        encoder.backbone.pos_embed.zero_()
        tokens = encoder.embed(pixels).tokens
    assert torch.allclose(tokens, encoder.backbone.patch_embed.proj.bias.expand(1, 4, 32), atol=1e-6)


def test_statistics_come_from_the_pretraining():
    """DINOv2 was trained on ImageNet's statistics, SigLIP on 0.5; a bare module gets ImageNet's."""
    bare = wrap(VisionTransformer(img_size=32, **TINY))
    encoders = (make_encoder(), make_encoder("vit_base_patch16_siglip_256"), bare)
    means = [tuple(encoder.pixel_mean.flatten().tolist()) for encoder in encoders]
    assert means == [pytest.approx(IMAGENET_MEAN), pytest.approx((0.5,) * 3), pytest.approx(IMAGENET_MEAN)]


def test_other_bands_get_the_average_statistics():
    """Five bands are no colours: each is normalised by the average of the three that are known."""
    encoder = make_encoder(in_channels=5)
    assert encoder.pixel_mean.flatten().tolist() == pytest.approx([sum(IMAGENET_MEAN) / 3] * 5)
    with pytest.raises(ModelError, match="one value per channel: 5, got 3"):
        TimmViT(encoder.backbone, mean=IMAGENET_MEAN)


def test_statistics_are_not_saved():
    """Weight files hold the backbone alone, under the names that timm gives."""
    encoder = make_encoder()
    assert {f"backbone.{name}" for name in encoder.backbone.state_dict()} == set(encoder.state_dict())


def test_heads_that_never_run_are_dropped():
    """A pooling head or classifier would be weights without a gradient."""
    encoders = make_encoder("vit_base_patch16_siglip_256"), wrap(VisionTransformer(img_size=32, **TINY))
    names = [name for encoder in encoders for name, _ in encoder.named_parameters()]
    assert not [name for name in names if "attn_pool" in name or "head" in name]


def test_recipe_makes_the_same_architecture():
    """The recipe of an encoder is the call that makes one into which its weights fit."""
    encoder = make_encoder(patch_size=16, image_size=(32, 64), in_channels=4)
    recipe = dict(encoder.recipe)
    again = create_encoder(recipe.pop("name"), **recipe)
    again.load_state_dict(encoder.state_dict())
    assert again.training_size == (32, 64)


def test_moved_weights_move_the_positions():
    """A model cast to half and back has rounded positions, also for grids that it had seen before."""
    encoder = make_encoder()
    pixels = torch.rand(1, 3, 28, 42)
    with torch.no_grad():
        encoder.embed(pixels)
        tokens = encoder.bfloat16().float().embed(pixels).tokens
        wanted = copy.deepcopy(encoder).embed(pixels).tokens
    assert torch.equal(tokens, wanted)
