"""An EoMT with seeded random weights whose map is alive: smooth regions of several classes that follow the image.

It has learned nothing and its classes mean nothing. It serves to try a pipeline, to measure it, and to draw pictures of
it. Fresh random weights would not do: they give one class everywhere, or the same pattern in every patch. Here the
upscaling blurs, the masks are made to average zero and the queries to take different classes, both in closed form, and
the position embedding varies over the tile, so that neighbouring tiles disagree as those of a real model do.
"""

import torch
from torch import Tensor, nn

from eomt_core.encoders import create_encoder
from eomt_core.eomt import EoMT

DEPTH, BLOCKS, WIDTH, QUERIES_PER_CLASS = 4, 2, 64, 6

CLASS_LOGIT = 6.0
"""Of a query for its own class; for the others it is 0."""

MASK_SPREAD = 0.7
"""Standard deviation of the mask logits."""


@torch.no_grad()
def untrained_eomt(samples: Tensor, num_classes: int, seed: int = 0, position: float = 0.05) -> EoMT:
    """Make a small EoMT without training.

    Args:
        samples: (N, C, H, W) in [0, 1], what pixels look like; H and W are the tile size it is made for.
        num_classes: K.
        seed: Of the weights.
        position: How much the answer depends on the place in the tile.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _random_model(samples, num_classes)
        table = model.get_parameter("encoder.backbone.pos_embed")
        table[:, 1:] += position * _slopes(samples.shape[2] // 16, samples.shape[3] // 16)
        _smooth_upscaling(model)
    _centre_masks(model, samples)
    _spread_classes(model, samples)
    return model


def _random_model(samples: Tensor, num_classes: int) -> EoMT:
    size, channels = (samples.shape[2], samples.shape[3]), samples.shape[1]
    encoder = create_encoder(
        "vit_tiny_patch16_224", image_size=size, in_channels=channels, embed_dim=WIDTH, depth=DEPTH, num_heads=2
    )
    model = EoMT(encoder, num_classes, num_q=QUERIES_PER_CLASS * num_classes, num_blocks=BLOCKS).eval()
    model.set_mask_probs([0.0] * BLOCKS)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.add_(0.05 * torch.randn(parameter.shape))
    nn.init.normal_(model.q.weight)
    return model


def _slopes(height: int, width: int) -> Tensor:
    """Smooth functions of the place in the tile, (1, height · width, WIDTH)."""
    rows, cols = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    waves = [plane[..., None] * torch.randn(WIDTH) for plane in (rows, cols, rows * cols)]
    return torch.stack(waves).sum(0).reshape(1, height * width, WIDTH)


def _smooth_upscaling(model: EoMT) -> None:
    """Let the upscaling blur rather than draw one random pattern into every patch."""
    for name, kernel in model.upscale.named_parameters():
        if name.endswith("conv1.weight"):
            kernel.copy_(2 * kernel.mean((2, 3), keepdim=True).expand_as(kernel))
        if name.endswith("conv2.weight"):
            kernel.copy_((1 + 0.1 * torch.randn(kernel.shape)) / 9)


def _centre_masks(model: EoMT, samples: Tensor) -> None:
    """Project the mean feature out of the mask embeddings, so that every query covers half of the image."""
    mean = _seen(model, model.upscale, samples, output=True).mean((0, 2, 3))
    last = [model.get_parameter(f"mask_head.4.{name}") for name in ("weight", "bias")]
    for parameter in last:
        parameter.sub_(torch.tensordot(torch.outer(mean, mean) / mean.dot(mean), parameter, dims=1))
    scale = MASK_SPREAD / model(samples).mask_logits.std()
    for parameter in last:
        parameter.mul_(scale)


def _spread_classes(model: EoMT, samples: Tensor) -> None:
    """Solve the class head so that query q answers class q modulo K."""
    tokens = _seen(model, model.class_head, samples, output=False).mean(0)
    count = model.num_classes
    wanted = CLASS_LOGIT * torch.eye(count, count + 1).repeat(len(tokens) // count, 1)
    with_bias = torch.cat([tokens, torch.ones(len(tokens), 1)], 1)
    # Fewer queries than features and one bias: the least-squares solution of least norm, which gelsd gives.
    solved = torch.linalg.lstsq(with_bias.double(), wanted.double(), driver="gelsd").solution.float()
    model.class_head.weight.copy_(solved[:-1].T)
    model.class_head.bias.copy_(solved[-1])


def _seen(model: EoMT, part: nn.Module, samples: Tensor, output: bool) -> Tensor:
    """What goes into a part of the model, or comes out of it, when it sees the samples."""
    seen: list[Tensor] = []
    hook = part.register_forward_hook(lambda module, given, made: seen.append(made if output else given[0]))
    try:
        model(samples)
    finally:
        hook.remove()
    return seen[0]
