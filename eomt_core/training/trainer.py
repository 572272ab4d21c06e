"""One training, step by step: a model, its optimiser, its running average, and how far it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from eomt_core.encoders.timm_vit import TimmViT
from eomt_core.labeller import DTYPES
from eomt_core.mask_transformer import MaskTransformer
from eomt_core.training.average import Average
from eomt_core.training.batch import Batch
from eomt_core.training.losses import fixed_loss, matched_loss
from eomt_core.training.matching import homes_of
from eomt_core.training.schedule import Schedule, mask_probs, parameter_groups
from eomt_core.training.targets import objects_of, regions_of

SHORT = 1024
"""Patches up to which attention is spelled out on a CPU; its memory grows with their square."""


@dataclass(frozen=True)
class Training:
    """The choices of a training.

    Attributes:
        task: semantic or instance.
        matched: whether queries compete for regions or objects, else each class has one query (see `losses`).
        deep: whether a prediction is made before each of the last blocks, else before the first of them only.
        at_home: whether a query rather answers for what lies near its place on a grid, if there is such a grid; see
            `matching.homes_of`.
        masked: whether attention is masked at first.
        lr: rate of new parameters.
        weight_decay: of matrices and kernels.
        layer_decay: factor of the rate from one block of the encoder to the one before.
        betas: of AdamW.
        clip: largest norm of the gradient.
        schedule: how rates go.
        ema: share of the running average that a step keeps; 0: none.
        points: places per mask that the matched loss looks at.
        precision: fp32, bf16 or fp16, of the forward.
        seed: of everything random.
    """

    task: str
    matched: bool
    deep: bool = True
    at_home: bool = False
    masked: bool = False
    lr: float = 1.5e-3
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    schedule: Schedule = field(default_factory=Schedule)
    ema: float = 0.998
    points: int = 12544
    precision: str = "fp32"
    seed: int = 0


class Trainer:
    """A model in training.

    Attributes:
        model: what is trained; `average.model` is what one keeps.
        step: steps that are done.
    """

    def __init__(self, model: MaskTransformer, training: Training, device: torch.device) -> None:
        """Put a model in training on a device."""
        self.training, self.device, self.step = training, device, 0
        self.model = model.to(device).to(memory_format=torch.channels_last).train()
        self.model.aux_blocks = range(model.num_blocks) if training.deep else (0,)
        self.model.set_mask_probs((float(training.masked),) * model.num_blocks)
        _choose_attention(self.model, device)
        groups = parameter_groups(model, training.lr, training.weight_decay, training.layer_decay)
        self.optimizer = torch.optim.AdamW(groups, betas=training.betas)
        self.scaler = torch.amp.GradScaler(device.type, enabled=training.precision == "fp16")
        self.average = Average(self.model, training.ema)

    def advance(self, batch: Batch, progress: float) -> float:
        """Take one step.

        Args:
            batch: crops with their truth.
            progress: 0 to 1, how far the training is when the step begins.

        Returns:
            The loss before the step.
        """
        torch.manual_seed(
            self.training.seed * 1_000_003 + self.step
        )  # matching and annealing draw; a resumed run alike
        self._schedule(progress)
        loss = self._loss(batch)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.average.follow(self.model, self.step)
        return float(loss.detach())

    def _schedule(self, progress: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * self.training.schedule.factor(progress, group["encoder"])
        if self.training.masked:
            self.model.set_mask_probs(mask_probs(progress, self.model.num_blocks))

    def _loss(self, batch: Batch) -> Tensor:
        pixels = torch.from_numpy(batch.pixels).to(self.device, memory_format=torch.channels_last)
        labels = torch.from_numpy(batch.labels).to(self.device, torch.int64)
        dtype = DTYPES[self.training.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            masks = self.model(pixels)
        if not self.training.matched:
            return fixed_loss(masks, labels)
        truth_of = regions_of if self.training.task == "semantic" else objects_of
        homes = homes_of(self.model.num_q, self.device) if self.training.at_home else None
        return matched_loss(masks, [truth_of(image) for image in labels], self.training.points, homes=homes)

    def state(self) -> dict[str, Any]:
        """All that a continued training needs."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]


def _choose_attention(model: MaskTransformer, device: torch.device) -> None:
    """On a CPU and for short sequences the plain softmax is the faster one to train: 0.22 against 0.26 s a step."""
    if not isinstance(model.encoder, TimmViT):
        return
    rows, cols = model.encoder.training_size
    short = rows * cols <= SHORT * model.encoder.patch_size**2
    for block in model.encoder.backbone.blocks:
        block.attn.fused_attn = not (device.type == "cpu" and short)
