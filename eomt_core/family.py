"""Models on encoders other than timm's plain ViT, by name and by numbers; no torch."""

import math
from dataclasses import dataclass
from importlib.util import find_spec

from eomt_core.errors import ModelError
from eomt_core.limits import MAX_CLASSES
from eomt_core.windows import choose_windows

FAMILIES = ("vit-pytorch", "simple-vit", "scalable-vit")
MODES = ("tokens", "cross", "joint", "conv")
HEAD_WIDTH = 32
"""Channels of a head of scalable-vit, whatever the width of its map."""


@dataclass(frozen=True)
class FamilyArchitecture:
    """Everything that decides what a model of such a family is, so that it can be built again.

    Attributes:
        family: vit-pytorch and simple-vit (one sequence of patches), or scalable-vit (maps of four stages).
        query_mode: tokens (an `EoMT`), or cross, joint, conv (a `SpatialEoMT`).
        dim: width of a token, or of the finest map.
        depth: blocks per stage.
        num_heads: attention heads of a block, per stage.
        image_size: rows and columns of pixels that it is trained at.
        in_channels: C, the bands of the input.
        num_queries: Q.
        num_classes: K, without "no object".
        num_blocks: blocks or layers that the queries take part in.
        patch_size: pixels per patch along each axis, or per cell of the finest map.
        width: channels of a spatial model's levels and queries.
        reductions: factor by which each stage of scalable-vit reduces the keys of its attention.
        windows: nominal side of its windows, per stage.
        patch_norm: whether the pixels of each patch are brought to one mean and spread, as vit-pytorch does: then no
            patch tells how bright it is. Not of scalable-vit.
        parameters: numbers in the weights, by which a damaged file is known; 0: not counted yet.
    """

    family: str
    query_mode: str
    dim: int
    depth: tuple[int, ...]
    num_heads: tuple[int, ...]
    image_size: tuple[int, int] = (256, 256)
    in_channels: int = 3
    num_queries: int = 100
    num_classes: int = 1
    num_blocks: int = 4
    patch_size: int = 16
    width: int = 0
    reductions: tuple[int, ...] = ()
    windows: tuple[int, ...] = ()
    patch_norm: bool = True
    parameters: int = 0

    def __post_init__(self) -> None:
        for wrong, message in (
            (self.family not in FAMILIES, f"family {self.family!r}: known are {', '.join(FAMILIES)}"),
            (self.query_mode not in MODES, f"query_mode {self.query_mode!r}: known are {', '.join(MODES)}"),
            (not 1 <= self.num_classes <= MAX_CLASSES, f"{self.num_classes} classes; 1 to {MAX_CLASSES} are possible"),
            (self.stages != len(self.num_heads), "depth and num_heads differ in length"),
            (not self.spatial and self.query_mode != "tokens" and not self.width, "a spatial model needs its width"),
            (self.spatial and self.query_mode == "tokens", "scalable-vit has maps: take cross, joint or conv"),
            (self.spatial and not self.stages == len(self.windows) == len(self.reductions), "a stage lacks numbers"),
        ):
            if wrong:
                raise ModelError(f"architecture: {message}")
        if any(length < 1 or length % self.min_multiple for length in self.image_size):
            raise ModelError(f"training size {self.image_size} is no multiple of {self.min_multiple}, the lattice")

    @property
    def stages(self) -> int:
        """Stages of the encoder."""
        return len(self.depth)

    @property
    def spatial(self) -> bool:
        """Whether the encoder gives maps of several strides."""
        return self.family == "scalable-vit"

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of each map of scalable-vit."""
        return tuple(4 * 2**index for index in range(self.stages))

    def check_installed(self) -> None:
        """Check that the library is here that these models are built from.

        Raises:
            ModelError: it is not.
        """
        if find_spec("vit_pytorch") is None:
            raise ModelError(f"{self.family} needs the extra vit-pytorch: pip install '.[vit-pytorch]'")

    def check_tile(self, size: tuple[int, int]) -> None:
        """Check that the maps of a tile divide into windows.

        Raises:
            TileSizeError: they do not; the message has sizes near it that do.
        """
        if self.spatial:
            choose_windows(size, self.windows, self.strides)

    def alive(self, tile: tuple[int, int]) -> tuple[int, int]:
        """Numbers of one tile in the encoder: features of its largest map or sequence, and of attention's scores.

        Those of one sequence are never there as a whole, as its attention is fused; that of scalable-vit is not.
        """
        area = tile[0] * tile[1]
        if not self.spatial:
            return self.dim * (area // self.patch_size**2), 0
        features, scores = [0], [0]
        windows = choose_windows(tile, self.windows, self.strides)
        for stage, (heads, factor, side) in enumerate(zip(self.num_heads, self.reductions, windows, strict=True)):
            cells = area // self.strides[stage] ** 2
            features.append(cells * max(self.dim * 2**stage, heads * HEAD_WIDTH))
            scores.append(cells * heads * max(cells // factor**2, side**2 if side else cells))
        return max(features), max(scores)

    @property
    def embed_dim(self) -> int:
        """Channels of the widest thing that is computed at the masks' stride."""
        patches = not self.spatial and self.query_mode != "tokens"
        return self.width if patches else max(self.dim, self.width)

    @property
    def stride(self) -> int:
        """Pixels per mask cell along each axis."""
        return min(self.patch_size, 4)

    @property
    def min_multiple(self) -> int:
        """The lattice: rows and columns of a tile must be multiples of it."""
        if not self.spatial:
            return self.patch_size
        return math.lcm(*(4 * 2**index * factor for index, factor in enumerate(self.reductions)))

    @property
    def stem(self) -> tuple[int, ...]:
        """No stem."""
        return ()


_VIT = {"dim": 128, "depth": (10,), "num_heads": (2,)}
_SCALABLE = {"family": "scalable-vit", "patch_size": 4, "reductions": (8, 4, 2, 1)}
_QUERIES = {"width": 64, "num_blocks": 3}
_TINY = {"dim": 24, "depth": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8), "windows": (16,) * 4, **_QUERIES}
PRESETS = {
    "vit-pytorch": FamilyArchitecture("vit-pytorch", "tokens", **_VIT),  # type: ignore[arg-type]
    "vit-pytorch-raw": FamilyArchitecture("vit-pytorch", "tokens", patch_norm=False, **_VIT),  # type: ignore[arg-type]
    "simple-vit": FamilyArchitecture("simple-vit", "tokens", **_VIT),  # type: ignore[arg-type]
    "vit-pytorch-cross": FamilyArchitecture("vit-pytorch", "cross", **_QUERIES, **_VIT | {"depth": (11,)}),  # type: ignore[arg-type]
    "scalable-tiny": FamilyArchitecture(query_mode="cross", **_SCALABLE, **_TINY),  # type: ignore[arg-type]
    "scalable-tiny-joint": FamilyArchitecture(query_mode="joint", **_SCALABLE, **_TINY),  # type: ignore[arg-type]
    "scalable-tiny-conv": FamilyArchitecture(query_mode="conv", **_SCALABLE, **_TINY),  # type: ignore[arg-type]
    "scalable-vit": FamilyArchitecture(
        query_mode="cross",
        dim=64,
        depth=(2, 2, 6, 2),
        num_heads=(2, 4, 8, 16),
        windows=(20,) * 4,
        width=256,
        image_size=(640, 640),
        **_SCALABLE,  # type: ignore[arg-type]
    ),
}
"""What `new:NAME` makes of these families.

All but the last take as many FLOPs a pixel, within a tenth, at tiles of 128 and of 256 pixels: `bench encoders` holds
them against each other. The scalable-tiny three differ in the way of their queries alone; vit-pytorch-cross has a block
more than vit-pytorch, as its queries do not go through the encoder.
"""
