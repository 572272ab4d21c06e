"""`ScalableViT` of vit-pytorch as an encoder of the map kind: one map per stage, at strides 4, 8, 16 and 32.

Its stages run as the library runs them: self-attention, feed-forward, positions, feed-forward, windowed attention. The
paper has the last two the other way round, but weights fit the order that they were trained in.
"""

import math
from collections.abc import Sequence
from typing import Any

from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from vit_pytorch.scalable_vit import ScalableViT

from eomt_core.encoders.adapter import Adapter
from eomt_core.errors import ModelError
from eomt_core.windows import choose_windows


class ScalableMaps(Adapter):
    """A `ScalableViT` as a map encoder (see `MapEncoder`), for tiles whose maps divide into windows.

    Attributes:
        strides: pixels per cell of each map, finest first.
        widths: channels of each map.
        windows: nominal side of the windows per stage; None: the whole map, whose memory grows with its square.
    """

    backbone: Any

    def __init__(
        self,
        backbone: ScalableViT,
        image_size: tuple[int, int],
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        """Wrap a backbone; its classifier goes, as it would be weights without a gradient.

        Args:
            backbone: a `ScalableViT`.
            image_size: rows and columns of pixels that it is trained at.
            mean: C channel means of pixels in [0, 1]; default: ImageNet.
            std: C standard deviations, likewise.

        Raises:
            ModelError: another class.
            TileSizeError: the maps of the training size do not divide into windows.
        """
        super().__init__()
        if not isinstance(backbone, ScalableViT):
            raise ModelError(f"{type(backbone).__name__} is no ScalableViT of vit-pytorch")
        self.backbone = backbone
        backbone.mlp_head = nn.Identity()
        self._image_size = image_size
        self._read_shape()
        # The last stage comes without a norm, and the heads expect maps of one scale.
        self.norms = nn.ModuleList(LayerNorm2d(width, eps=1e-6) for width in self.widths)
        self._add_statistics(mean, std)
        choose_windows(image_size, self.windows, self.strides)

    @property
    def training_size(self) -> tuple[int, int]:
        """Rows and columns of pixels that it is trained at."""
        return self._image_size

    def block_of(self, name: str) -> int | None:
        """Tell which block a parameter of the backbone belongs to: -1 before the first, None after the last."""
        parts = name.split(".")
        if parts[0] != "layers":
            return -1
        before = sum(self._depths[: int(parts[1])])
        inside = int(parts[4]) if parts[2:4] == ["0", "layers"] else self._depths[int(parts[1])] - 1
        return before + inside

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Turn pixels (B, C, H, W) in [0, 1] into normalised maps (B, widths[i], H / strides[i], W / strides[i]).

        Raises:
            TileSizeError: H or W is off the lattice, or a map does not divide into windows.
            ModelError: the pixels have other channels, or are no floats.
        """
        self.grid_of(pixels)
        made = self.stage_maps(self.normalise(pixels))
        return [norm(each) for norm, each in zip(self.norms, made, strict=True)]

    def stage_maps(self, normalised: Tensor) -> list[Tensor]:
        """Run the library's stages on normalised pixels and keep what each gives before it is halved."""
        rows, columns = normalised.shape[-2:]
        sides = choose_windows((rows, columns), self.windows, self.strides)
        made, maps = [], self.backbone.to_patches(normalised)
        for (transformer, downsample), side in zip(self.backbone.layers, sides, strict=True):
            for block in transformer.layers:
                block[4].window_size = side
            maps = transformer(maps)
            made.append(maps)
            maps = maps if downsample is None else downsample(maps)
        return made

    def _read_shape(self) -> None:
        """Take the attributes of the `MapEncoder` protocol from the backbone."""
        stages = [transformer for transformer, _ in self.backbone.layers]
        self.dim = self.backbone.to_patches.out_channels
        self.in_channels = self.backbone.to_patches.in_channels
        self._depths = [len(stage.layers) for stage in stages]
        self.num_blocks = sum(self._depths)
        self.strides = tuple(4 * 2**index for index in range(len(stages)))
        self.widths = tuple(self.dim * 2**index for index in range(len(stages)))
        self.windows = tuple(stage.layers[0][4].window_size for stage in stages)
        self.patch_size = self.strides[0]
        # A stage reduces its keys by a whole factor; where the map is no multiple of it, border keys would be lost.
        reductions = [stage.layers[0][0].to_k.stride[0] for stage in stages]
        self.min_multiple = math.lcm(
            *(stride * reduction for stride, reduction in zip(self.strides, reductions, strict=True))
        )
