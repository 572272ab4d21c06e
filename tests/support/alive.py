"""An EoMT with seeded random weights whose map is alive: smooth regions of several classes that follow the image.

Fresh weights give one class everywhere. Here the masks are made to average zero and the queries to take different
classes, both in closed form; a position embedding that varies over the tile makes neighbouring tiles disagree.
"""

from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.windows import Window
from torch import Tensor, nn

from eomt_core import EoMT, save_model
from eomt_core.card import ModelCard
from eomt_core.encoders import create_encoder

TILE, DIM, CLASSES, QUERIES = 256, 64, 8, 48


@torch.no_grad()
def save_alive(directory: Path, raster: Path, seed: int = 0, position: float = 0.05) -> Path:
    """Save the model into a directory; samples of the raster show it what pixels look like."""
    torch.manual_seed(seed)
    encoder = create_encoder("vit_tiny_patch16_224", image_size=TILE, embed_dim=DIM, depth=4, num_heads=2)
    model = EoMT(encoder, CLASSES, num_q=QUERIES, num_blocks=2).eval()
    model.set_mask_probs([0.0, 0.0])
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter += 0.05 * torch.randn(parameter.shape)
    encoder.backbone.pos_embed[:, 1:] += position * _slopes(TILE // 16)
    nn.init.normal_(model.q.weight)
    _smooth_upscaling(model)
    pixels = samples(raster)
    _centre_masks(model, pixels)
    _spread_classes(model, pixels)
    names = tuple(f"class_{index}" for index in range(CLASSES))
    save_model(model, directory, ModelCard("alive", names, tasks=("semantic",)))
    return directory


def samples(raster: Path) -> Tensor:
    """Seven windows of a raster, (7, 3, TILE, TILE) in [0, 1]."""
    with rasterio.open(raster) as source:
        windows = [Window(500 * i, 600 * i, TILE, TILE) for i in range(1, 8)]
        return torch.from_numpy(np.stack([source.read(window=window) for window in windows])).float() / 255


def _slopes(side: int) -> Tensor:
    """Smooth functions of the place in the tile, (1, side², DIM)."""
    rows, cols = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    waves = (plane[..., None] * torch.randn(DIM) for plane in (rows, cols, rows * cols))
    return sum(waves, torch.zeros(DIM)).reshape(1, side**2, DIM)


def _smooth_upscaling(model: EoMT) -> None:
    """Let the upscaling blur rather than draw the same random pattern into every patch."""
    for block in model.upscale:
        kernel = block.conv1.weight
        kernel.copy_(2 * kernel.mean((2, 3), keepdim=True).expand_as(kernel))
        block.conv2.weight.copy_((1 + 0.1 * torch.randn(block.conv2.weight.shape)) / 9)


def _centre_masks(model: EoMT, pixels: Tensor) -> None:
    """Project the mean feature out of the mask embeddings, so that every query covers half of the image."""
    seen: list[Tensor] = []
    hook = model.upscale.register_forward_hook(lambda module, given, made: seen.append(made))
    model(pixels)
    hook.remove()
    mean = seen[0].mean((0, 2, 3))
    last = model.mask_head[4]
    for parameter in (last.weight, last.bias):
        parameter -= torch.tensordot(torch.outer(mean, mean) / mean.dot(mean), parameter, dims=1)
    scale = 0.7 / model(pixels).mask_logits.std()
    last.weight.mul_(scale)
    last.bias.mul_(scale)


def _spread_classes(model: EoMT, pixels: Tensor) -> None:
    """Solve the class head so that query q answers class q modulo CLASSES."""
    seen: list[Tensor] = []
    hook = model.class_head.register_forward_hook(lambda module, given, made: seen.append(given[0]))
    model(pixels)
    hook.remove()
    tokens = torch.cat([seen[0].mean(0), torch.ones(QUERIES, 1)], 1).double()
    wanted = 6 * torch.eye(CLASSES, CLASSES + 1).repeat(QUERIES // CLASSES, 1).double()
    solved = torch.linalg.lstsq(tokens, wanted, driver="gelsd").solution.float()
    model.class_head.weight.copy_(solved[:-1].T)
    model.class_head.bias.copy_(solved[-1])
