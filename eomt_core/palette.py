"""A model without learning, whose answer is known by arithmetic.

`PaletteModel` gives each cell the class whose colour is nearest to the cell's mean colour. It sees one cell at a time,
so the answer for an image does not depend on how it was cut into tiles. Use it to try a cluster, a scheduler or a
mosaic before the weights of a real model are at hand.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eomt_core.card import ModelCard, PaletteArchitecture
from eomt_core.describe import card_text
from eomt_core.location import OWN_CARD, WEIGHTS
from eomt_core.outputs import QueryMasks

SHARPNESS = 400
"""Logits lost per unit of squared distance: at a seventh of the colour range from a colour the mask has ended."""


class PaletteModel(nn.Module):
    """One query per class; its mask is where the mean colour of a cell is near the class's colour.

    Args:
        colours: (K, C) in [0, 1].
        stride: Pixels a side of a cell.
        lattice: Pixels that tile sizes and origins are multiples of; a multiple of the stride.
    """

    def __init__(self, colours: Tensor, stride: int = 4, lattice: int = 16) -> None:
        super().__init__()
        self.colours = nn.Parameter(colours.float(), requires_grad=False)
        self.stride = stride
        self.min_multiple = lattice
        self.num_classes = self.num_q = len(colours)

    def forward(self, pixels: Tensor) -> QueryMasks:
        """Query masks of pixels (B, C, H, W) in [0, 1]: a logit of 8 at the colour itself, falling with distance²."""
        cells = F.avg_pool2d(pixels.float(), self.stride)
        distance = (cells[:, None] - self.colours[None, :, :, None, None]).square().sum(2)
        classes = 16 * torch.eye(self.num_classes, self.num_classes + 1, device=pixels.device)
        return QueryMasks(8 - SHARPNESS * distance, classes.expand(len(pixels), -1, -1), self.stride)


def save_palette(
    directory: str | Path,
    colours: Sequence[Sequence[float]],
    classes: Sequence[str] | None = None,
    *,
    stride: int = 4,
    lattice: int = 16,
    tile: int = 512,
) -> Path:
    """Write a palette model in our own format.

    Args:
        directory: Made if it is not there.
        colours: K colours of C bands in [0, 1].
        classes: K names.
        stride: Pixels a side of a cell.
        lattice: Pixels that tile sizes are multiples of.
        tile: Pixels a side of a tile, by default.

    Returns:
        The directory.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    bands = len(colours[0])
    names = tuple(classes or (f"class_{index}" for index in range(len(colours))))
    card = ModelCard(f"palette-{len(colours)}", names, tasks=("semantic",), mean=(0.0,) * bands, std=(1.0,) * bands)
    architecture = PaletteArchitecture(len(colours), bands, stride, lattice, (tile, tile))
    save_file({"colours": torch.tensor(colours, dtype=torch.float32)}, directory / WEIGHTS, metadata={"format": "pt"})
    (directory / OWN_CARD).write_text(card_text(architecture, card), encoding="utf-8")
    return directory


def load_palette(weights: Path, architecture: PaletteArchitecture) -> PaletteModel:
    """Read what `save_palette` wrote."""
    return PaletteModel(load_file(weights)["colours"], architecture.stride, architecture.min_multiple)
