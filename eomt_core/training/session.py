"""A training as those see it who know no torch: arrays in, losses and labels out, files on disk."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eomt_core.card import ModelCard
from eomt_core.checkpoint import load_model, save_model
from eomt_core.errors import ModelError, TileSizeError
from eomt_core.families import adapter_of
from eomt_core.labeller import Labeller, Thresholds
from eomt_core.mask_transformer import MaskTransformer
from eomt_core.predict import choose_device, choose_precision
from eomt_core.recipes import new_model
from eomt_core.training.adapt import with_bands, with_classes
from eomt_core.training.batch import Batch
from eomt_core.training.trainer import Trainer, Training
from eomt_core.writing import system_errors

NEW = "new:"
"""Before the name of an architecture: a model with random weights."""


@dataclass(frozen=True)
class Beginning:
    """What a training begins with.

    Attributes:
        model: `new:NAME`, or where a model lies.
        classes: K names.
        one_each: whether each class has one query of its own, else queries compete.
        bands: C.
        image_size: pixels a side of a training tile; None: the architecture's.
        mean: per band, of pixels in [0, 1]; for new models.
        std: likewise.
        seed: of random weights.
        known_classes: the names that the model has had so far; empty for new models.
        base: see `load_model`.
    """

    model: str
    classes: tuple[str, ...]
    one_each: bool
    bands: int
    image_size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    known_classes: tuple[str, ...] = ()
    base: str | None = None

    def make(self) -> MaskTransformer:
        """Make the model.

        Raises:
            ModelError: there is no such model, or it cannot be trained.
        """
        torch.manual_seed(self.seed)
        if self.model.startswith(NEW):
            return new_model(
                self.model.removeprefix(NEW),
                len(self.classes),
                semantic=self.one_each,
                in_channels=self.bands,
                image_size=self.image_size,
                mean=self.mean,
                std=self.std,
            )
        model = load_model(self.model, self.base)
        if not isinstance(model, MaskTransformer):
            raise ModelError(f"model {self.model}: is a palette, which learns nothing; take new:hybrid-tiny")
        wide = with_bands(model, self.bands)
        return with_classes(wide, self.known_classes, self.classes, one_each=self.one_each)


class Session:
    """A model in training on a device.

    Attributes:
        trainer: the training itself.
    """

    def __init__(self, beginning: Beginning, training: Training, device: str, threads: int | None = None) -> None:
        """Make the model and put it in training.

        Raises:
            ModelError: no such model or device.
        """
        if threads:
            torch.set_num_threads(threads)
        place = choose_device(device)
        if training.precision == "auto":
            raise ModelError("the precision of a training is decided before it begins")
        self.trainer = Trainer(beginning.make(), training, place)

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns that the position table is made for."""
        return adapter_of(self.trainer.model)[0].training_size

    @property
    def lattice(self) -> int:
        """Pixels that sizes of tiles are multiples of."""
        return self.trainer.model.min_multiple

    def takes(self, side: int) -> bool:
        """Tell whether the model takes square crops of so many pixels: on its lattice, and divisible into windows."""
        model = self.trainer.model
        try:
            if model.family:
                model.family.check_tile((side, side))
        except TileSizeError:
            return False
        return side % model.min_multiple == 0

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self.trainer.step

    def advance(self, batch: Batch, progress: float) -> float:
        """Take one step and return the loss before it; see `Trainer.advance`."""
        return self.trainer.advance(batch, progress)

    def label(self, pixels: NDArray[np.float32], thresholds: Thresholds) -> NDArray[np.int32]:
        """Label one tile with the averaged model; see `Labeller`."""
        return self._labeller(thresholds if self.trainer.training.task == "instance" else None)(pixels)

    def objects(self, pixels: NDArray[np.float32], choices: Sequence[Thresholds]) -> list[NDArray[np.int32]]:
        """Objects of one tile by several thresholds; see `Labeller.objects`."""
        return self._labeller(None).objects(pixels, choices)

    def _labeller(self, thresholds: Thresholds | None) -> Labeller:
        trainer = self.trainer
        return Labeller(trainer.average.model, trainer.device, trainer.training.precision, thresholds)

    def save(self, directory: Path, card: ModelCard, *, half: bool) -> None:
        """Write the averaged model in our own format; `half` stores weights as float16."""
        model = self.trainer.average.model
        model.set_mask_probs((0.0,) * model.num_blocks)
        save_model(model, directory, card, torch.float16 if half else torch.float32)

    def write_state(self, path: Path, more: dict[str, Any]) -> None:
        """Write all that a continued training needs; the file appears whole, or stays the last one.

        Raises:
            OSError: it cannot be written, as when the disk is full.
        """
        partial = path.with_name(f".{path.name}")
        try:
            with system_errors(path), partial.open("wb") as file:
                torch.save({"training": self.trainer.state(), **more}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)  # what is left of it would keep a full disk full

    def read_state(self, path: Path) -> dict[str, Any]:
        """Go on from what `write_state` wrote, and return what was given to it.

        Raises:
            ModelError: the file cannot be read.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.trainer.restore(state.pop("training"))
        # What damaged files raise here is not a closed list.
        except Exception as error:
            raise ModelError(
                f"{path}: cannot be read ({type(error).__name__}); start afresh with --overwrite"
            ) from error
        return dict(state)


def training_precision(name: str, device: str) -> str:
    """The precision of a training: on a CPU bf16 where it computes with it, else fp32; on a GPU as for inference."""
    place = choose_device(device)
    if name == "auto" and place.type == "cpu":
        return "bf16" if torch.backends.cpu.get_cpu_capability() == "AVX512" and _has_bf16() else "fp32"
    return choose_precision(name, place)


def _has_bf16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def channel_statistics(samples: Sequence[NDArray[np.float32]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per band of crops (C, H, W), to four decimals: they end up on a card."""
    pixels = np.concatenate([sample.reshape(len(sample), -1) for sample in samples], axis=1)
    mean, std = pixels.mean(1), np.maximum(pixels.std(1), 1e-3)
    return tuple(round(float(value), 4) for value in mean), tuple(round(float(value), 4) for value in std)
