"""SpatialEoMT answers as EoMT does, whichever way its queries meet the maps of whichever encoder."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from eomt_core import SpatialEoMT
from eomt_core.encoders import create_encoder
from eomt_core.encoders.token_maps import TokenMaps
from eomt_core.errors import ModelError
from eomt_core.training.losses import matched_loss
from eomt_core.training.targets import regions_of

MODES = ("cross", "joint", "conv")
ENCODERS = ("ScalableViT", "plain ViT")


def make_encoder(kind: str) -> nn.Module:
    """A tiny encoder of the map kind."""
    if kind == "plain ViT":
        return TokenMaps(create_encoder("vit_tiny_patch16_224", image_size=64, embed_dim=32, depth=2, num_heads=2))
    library = pytest.importorskip("vit_pytorch.scalable_vit", reason="the extra vit-pytorch is not installed")
    from eomt_core.encoders.scalable_vit import ScalableMaps

    sizes = {"dim": 16, "depth": (1, 1, 1, 1), "heads": (1, 2, 2, 2), "reduction_factor": (8, 4, 2, 1)}
    return ScalableMaps(library.ScalableViT(num_classes=1, window_size=8, **sizes), (64, 64))


def make(mode: str = "cross", kind: str = "plain ViT") -> SpatialEoMT:
    """A tiny model of 3 classes, 5 queries and 3 layers."""
    torch.manual_seed(0)
    return SpatialEoMT(make_encoder(kind), 3, num_q=5, num_blocks=3, query_mode=mode, width=32)


@pytest.fixture(params=[(mode, kind) for mode in MODES for kind in ENCODERS], ids=" ".join)
def model(request: pytest.FixtureRequest) -> Iterator[SpatialEoMT]:
    """Every way of the queries on every kind of encoder."""
    return make(*request.param)


def squares(number: int = 2) -> tuple[Tensor, Tensor]:
    """Dark images with a bright square and a green one, and the classes of their pixels."""
    pixels, labels = torch.full((number, 3, 64, 64), 0.2), torch.zeros(number, 64, 64, dtype=torch.int64)
    pixels[:, :, 8:32, 8:32], labels[:, 8:32, 8:32] = 0.9, 1
    pixels[:, 1, 36:60, 32:60], labels[:, 36:60, 32:60] = 0.9, 2
    return pixels, labels


def test_it_answers_as_eomt_does(model: SpatialEoMT) -> None:
    """Masks at stride 4 and classes with "no object", for a tile of another size and shape; no aux in evaluation."""
    out = model.eval()(torch.rand(2, 3, 64, 128))
    assert (out.mask_logits.shape, out.class_logits.shape, out.stride) == ((2, 5, 16, 32), (2, 5, 4), 4)
    assert out.aux is None


def test_every_parameter_learns(model: SpatialEoMT) -> None:
    """Gradients of the masks and classes, aux too, reach every parameter, masked as training begins."""
    out = model.train()(torch.rand(2, 3, 64, 64))
    assert len(out.aux) == model.num_blocks
    sum(each.mask_logits.square().sum() + each.class_logits.square().sum() for each in (out, *out.aux)).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_a_few_steps_lower_the_loss(model: SpatialEoMT) -> None:
    """The loss of EoMT falls on two squares, for the baseline as well."""
    pixels, labels = squares()
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        torch.manual_seed(0)
        loss = matched_loss(model(pixels), [regions_of(image) for image in labels], 256)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("mode", ["cross", "joint"])
def test_empty_masks_leave_numbers(mode: str) -> None:
    """A query whose mask is empty sees everything rather than nothing: finite answers, and not those without masks."""
    model = make(mode).eval()
    with torch.no_grad():
        model.mask_head[4].weight.zero_()
        model.mask_head[4].bias.fill_(-1.0)
        assert torch.isfinite(model(torch.rand(1, 3, 64, 64)).class_logits).all()


@pytest.mark.parametrize("mode", ["cross", "joint"])
def test_probability_zero_is_no_mask(mode: str) -> None:
    """With probabilities of 0 the model equals itself with masks switched off; with 1 it differs."""
    model, pixels = make(mode).eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        masked = model(pixels).class_logits
        model.set_mask_probs((0.0,) * 3)
        unmasked = model(pixels).class_logits
        model.masked = False
        assert torch.equal(model(pixels).class_logits, unmasked)
    assert not torch.equal(masked, unmasked)


@pytest.mark.parametrize("mode", MODES)
def test_permuted_queries_permute_answers(mode: str) -> None:
    """Queries have no order."""
    model, pixels, order = make(mode).eval(), torch.rand(1, 3, 64, 64), torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        before = model(pixels)
        for table in (model.q, getattr(model, "q_place", None)):
            if table is not None:
                table.weight.copy_(table.weight[order])
        after = model(pixels)
    assert torch.allclose(after.mask_logits, before.mask_logits[:, order], atol=1e-5)
    assert torch.allclose(after.class_logits, before.class_logits[:, order], atol=1e-5)


def test_conv_equals_the_two_convolutions_of_the_idea() -> None:
    """The baseline is the grouped 1 x 1 convolutions that it is said to be, classes pooled at the end."""
    model, finest = make("conv").eval(), torch.rand(2, 32, 6, 7)
    with torch.no_grad():
        features = nn.functional.conv2d(finest, model.q.weight.reshape(5 * 8, 32, 1, 1)).unflatten(1, (5, 8))
        masks = torch.einsum("e,bqehw->bqhw", model.mask_head.weight[0], features) + model.mask_head.bias
        classes = model.class_head(features.permute(0, 1, 3, 4, 2)).mean((2, 3))
        found = model._filter(finest)
    assert torch.allclose(found.mask_logits, masks, atol=1e-5)
    assert torch.allclose(found.class_logits, classes, atol=1e-5)


def test_numbers_that_make_no_model_are_refused() -> None:
    """An unknown mode, a width that heads do not divide, and no layers are named."""
    encoder = make_encoder("plain ViT")
    with pytest.raises(ModelError, match="take one of cross, joint, conv"):
        SpatialEoMT(encoder, 3, query_mode="diagonal")
    with pytest.raises(ModelError, match="multiple of 32"):
        SpatialEoMT(encoder, 3, width=40)
