"""Patches made by a small convolutional network instead of one linear cut.

A vision transformer trained from scratch on little data starts faster and steadier behind a few 3 x 3 convolutions
(Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021), and their finer maps give masks edges
that patches of 16 pixels cannot hold.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that counts no batches: a fixed momentum has no use for it, and it would be saved with the weights."""

    def __init__(self, channels: int) -> None:
        """Make a norm for maps of so many channels."""
        super().__init__(channels)
        self.num_batches_tracked = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # The override of `_NormBase` makes up a count where there is none.
        nn.Module._load_from_state_dict(self, *args, **kwargs)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Let the batch norms of a module in training normalise as ever, but leave their running statistics alone."""
    norms = [part for part in module.modules() if isinstance(part, BatchNorm)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class ConvNormAct(nn.Module):
    """3 x 3 convolution, batch norm, ReLU: (B, c, h, w) to (B, width, h / stride, w / stride)."""

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        """Make a layer from `channels` to `width` channels."""
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm = BatchNorm(width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Run the layer."""
        out: Tensor = self.act(self.norm(self.conv(maps)))
        return out


class Stem(nn.Module):
    """Halves the resolution n + 1 times: pixels (B, C, H, W) to patches (B, D, H / 2^(n+1), W / 2^(n+1)).

    Attributes:
        widths: channels of the n maps on the way, at strides 2, 4, ... 2^n.
        in_channels: C.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], dim: int) -> None:
        """Make a stem of n = len(widths) layers and the last one, which gives D = `dim` channels."""
        super().__init__()
        self.in_channels, self.widths = in_channels, tuple(widths)
        channels = (in_channels, *widths)
        self.layers = nn.ModuleList(ConvNormAct(a, b, stride=2) for a, b in zip(channels, widths, strict=False))
        self.out = nn.Conv2d(channels[-1], dim, kernel_size=3, stride=2, padding=1)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps on the way, finest first, and the patches."""
        maps = [pixels]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return [*maps[1:], self.out(maps[-1])]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the patches alone."""
        return self.maps(pixels)[-1]


class StemEmbed(PatchEmbed):  # type: ignore[misc]  # timm has no types
    """timm's patch embedding with a `Stem` in the place of its one convolution."""

    def __init__(self, *, widths: Sequence[int], in_chans: int = 3, embed_dim: int = 192, **options: Any) -> None:
        """Make it for `VisionTransformer(embed_layer=partial(StemEmbed, widths=...))`, which gives the rest."""
        super().__init__(in_chans=in_chans, embed_dim=embed_dim, **options)
        self.proj = Stem(in_chans, widths, embed_dim)
