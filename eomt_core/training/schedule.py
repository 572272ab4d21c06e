"""How rates, warm-ups and mask probabilities go with the progress of a training, from 0 to 1."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from eomt_core.families import adapter_of
from eomt_core.mask_transformer import MaskTransformer

FLOOR = 0.01
"""What is left of the rate at the end."""


@dataclass(frozen=True)
class Schedule:
    """Learning rates as factors of the base rate.

    Attributes:
        warmup: share of the training in which the rates of new parameters rise from 0.
        encoder_from: share after which the encoder's rates begin to rise, for as long as the warm-up took; 0: with the
            others.
    """

    warmup: float = 0.05
    encoder_from: float = 0.0

    def factor(self, progress: float, encoder: bool) -> float:
        """Return the rate's factor at a progress of 0 to 1: a linear rise, then half a cosine down to `FLOOR`."""
        start = self.encoder_from if encoder else 0.0
        rise = min(1.0, max(0.0, progress - start) / self.warmup) if self.warmup else float(progress >= start)
        fall = FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * min(1.0, progress))) / 2
        return rise * fall


def mask_probs(progress: float, blocks: int) -> tuple[float, ...]:
    """Return the probability that attention is masked, per block: one block after the other goes from 1 to 0.

    With training length 1, block k of n falls from 1/6 + k / (2 (n - 1)) for 1/6, with power 0.9, as in the reference.
    """
    starts = [1 / 6 + (k / (blocks - 1) / 2 if blocks > 1 else 0) for k in range(blocks)]
    return tuple((1 - min(1.0, max(0.0, (progress - start) * 6))) ** 0.9 for start in starts)


def parameter_groups(
    model: MaskTransformer, lr: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Sort parameters for AdamW: by depth, new or of the encoder, decayed or not (vectors and positions are not).

    Args:
        model: the model.
        lr: rate of the new parameters and of the encoder's last norm.
        weight_decay: of matrices and kernels.
        layer_decay: factor of the rate from each block to the one before; the embeddings share the first block's.
    """
    groups: dict[tuple[float, bool, bool], list[Tensor]] = {}
    for scale, encoder, name, parameter in _scaled(model, layer_decay):
        decayed = parameter.ndim > 1 and not name.endswith(("pos_embed", "pos_embedding", "_token", "q.weight"))
        groups.setdefault((scale, encoder, decayed), []).append(parameter)
    return [
        {"params": members, "lr": lr * scale, "base_lr": lr * scale, "encoder": encoder, "weight_decay": decay}
        for (scale, encoder, decayed), members in groups.items()
        for decay in (weight_decay if decayed else 0.0,)
    ]


def _scaled(model: MaskTransformer, layer_decay: float) -> Iterator[tuple[float, bool, str, nn.Parameter]]:
    """Yield each trained parameter with the factor of its rate, and whether it is the encoder's."""
    encoder, prefix = adapter_of(model)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        inner = name.removeprefix(prefix)
        block = None if inner == name else encoder.block_of(inner)
        below = 0 if block is None else encoder.num_blocks - 1 - max(0, block)
        yield layer_decay**below, inner != name, name, parameter
