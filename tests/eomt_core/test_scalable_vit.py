"""ScalableViT gives the maps of its stages as the library computes them, at every tile that divides into windows."""

from typing import Any

import pytest
import torch

from eomt_core.encoders.protocol import MapEncoder
from eomt_core.errors import ModelError, TileSizeError
from eomt_core.windows import choose_windows, valid_sides

library = pytest.importorskip("vit_pytorch.scalable_vit", reason="the extra vit-pytorch is not installed")
from eomt_core.encoders.scalable_vit import ScalableMaps  # noqa: E402  # needs the extra

STRIDES = (4, 8, 16, 32)


def make_backbone(window: Any = (8, 8, 4, 2), **changes: Any) -> Any:
    """A tiny backbone of four stages with every weight off its initial value."""
    torch.manual_seed(0)
    sizes = {"dim": 8, "depth": (2, 1, 1, 2), "heads": (1, 2, 2, 2), "reduction_factor": (8, 4, 2, 1)}
    backbone = library.ScalableViT(num_classes=5, window_size=window, **(sizes | changes)).eval()
    with torch.no_grad():
        for weight in backbone.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    return backbone


def make(window: Any = (8, 8, 4, 2)) -> ScalableMaps:
    """An encoder that takes pixels as they are."""
    return ScalableMaps(make_backbone(window), (64, 64), mean=(0.0,) * 3, std=(1.0,) * 3).eval()


@pytest.mark.parametrize("size", [(64, 64), (64, 128)])
def test_pooled_maps_give_the_library_logits(size):
    """The last map, through the library's own head, is the library's own answer: nothing is lost or reordered."""
    backbone, pixels = make_backbone(), torch.rand(2, 3, *size)
    with torch.no_grad():
        wanted, last = backbone(pixels), make().stage_maps(pixels)[-1]
        assert torch.allclose(backbone.mlp_head(last), wanted, atol=1e-5)


def test_maps_are_normalised_at_four_strides():
    """Each stage gives a map of its stride and width, of mean 0 and variance 1 over the channels of a cell."""
    encoder = make()
    with torch.no_grad():
        maps = encoder.maps(torch.rand(1, 3, 64, 128))
    assert [tuple(each.shape[1:]) for each in maps] == [(8, 16, 32), (16, 8, 16), (32, 4, 8), (64, 2, 4)]
    assert all(each.mean(1).abs().max() < 1e-4 for each in maps)
    assert isinstance(encoder, MapEncoder)
    assert encoder.min_multiple == 32


@pytest.mark.parametrize(
    ("size", "windows"),
    [
        ((640, 640), (20, 20, 20, 20)),
        ((640, 1280), (20, 20, 20, 20)),
        ((512, 512), (16, 16, 16, 16)),
        ((384, 384), (16, 16, 12, 12)),
        ((64, 64), (16, 8, 4, 2)),
    ],
)
def test_windows_are_the_largest_common_divisors(size, windows):
    """Each stage takes the largest window that divides its map both ways and is not above the nominal 20."""
    assert choose_windows(size, (20,) * 4, STRIDES) == windows


def test_sizes_without_windows_are_refused_with_the_nearest():
    """736 is 23 cells of the last map, a prime above the window: refused, and what is offered is valid."""
    with pytest.raises(TileSizeError, match=r"736x736.*windows of 20, 20, 20, 20 .* 704x704") as caught:
        choose_windows((736, 736), (20,) * 4, STRIDES)
    offered = [int(each.split("x")[0]) for each in str(caught.value).rpartition("such as ")[2].split(", ")]
    assert set(offered) <= set(valid_sides((20,) * 4, STRIDES, 1500))
    assert 736 not in valid_sides((20,) * 4, STRIDES, 1500)


def test_the_library_refuses_what_the_chooser_runs():
    """The library asserts that its window divides the map; the same weights run at that size with another window."""
    pixels = torch.rand(1, 3, 96, 96)
    with torch.no_grad(), pytest.raises(AssertionError, match="not divisible"):
        make_backbone((16, 16, 4, 2))(pixels)
    with torch.no_grad():
        assert make((16, 16, 4, 2)).maps(pixels)[0].shape[-2:] == (24, 24)


def test_blocks_count_through_the_stages():
    """Rates that fall with depth need each parameter's block: 0 to 5 here, the stem before them."""
    encoder = make()
    blocks = {encoder.block_of(name) for name, _ in encoder.backbone.named_parameters()}
    assert blocks == {-1, 0, 1, 2, 3, 4, 5}


def test_another_class_is_refused():
    """What is no ScalableViT has no such stages."""
    with pytest.raises(ModelError, match="Linear is no ScalableViT"):
        ScalableMaps(torch.nn.Linear(2, 2), (64, 64))
