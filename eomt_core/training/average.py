"""The running average of a model in training, which is steadier than the model itself."""

import copy

import torch

from eomt_core.mask_transformer import MaskTransformer


class Average:
    """An exponential moving average of parameters and running statistics.

    Attributes:
        model: the average, a model in evaluation, without masks in its attention: it is judged as it will be used.
    """

    def __init__(self, model: MaskTransformer, keep: float) -> None:
        """Start from a model; each step keeps the share `keep` of the average."""
        self.keep = keep
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.model.masked = False

    @torch.no_grad()
    def follow(self, model: MaskTransformer, step: int) -> None:
        """Move towards the model after its step, the first steps faster, so that the random start is soon forgotten."""
        share = 1 - min(self.keep, (1 + step) / (10 + step))
        for kept, new in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new.to(kept.dtype), share)
            else:
                kept.copy_(new)
