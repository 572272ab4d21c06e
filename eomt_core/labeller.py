"""A model that gives one tile its labels at once: for validation and benches, where nothing is stored or stitched."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eomt_core.checkpoint import load_model
from eomt_core.outputs import QueryMasks
from eomt_core.postprocess import panoptic, semantic, with_instance_scores
from eomt_core.predict import choose_device, choose_precision

Thresholds = tuple[float, float, float]
"""Score, overlap and mask threshold; see `postprocess.panoptic`."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Labeller:
    """Called with a tile, gives class ids or object ids.

    Args:
        model: gives QueryMasks; it must be in evaluation.
        device: where it is.
        precision: fp32, bf16 or fp16, of the forward.
        thresholds: score, overlap and mask threshold, for objects; None: the model is semantic.
    """

    def __init__(self, model: nn.Module, device: torch.device, precision: str, thresholds: Thresholds | None) -> None:
        self.model, self.device, self.dtype, self.thresholds = model, device, DTYPES[precision], thresholds

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.int32]:
        """Label pixels (C, H, W) in [0, 1], H and W on the lattice.

        Returns:
            (H, W) class ids; for objects ids from 1, 0 is background.
        """
        if self.thresholds is not None:
            return self.objects(pixels, [self.thresholds])[0]
        found: NDArray[np.int32] = (
            semantic(self._run(pixels), (pixels.shape[1], pixels.shape[2]))[0].to(torch.int32).cpu().numpy()
        )
        return found

    def objects(self, pixels: NDArray[np.float32], choices: Sequence[Thresholds]) -> list[NDArray[np.int32]]:
        """Label pixels once and cut objects with each of several thresholds: ids (H, W) from 1, 0 is background."""
        masks, size = with_instance_scores(self._run(pixels)), (pixels.shape[1], pixels.shape[2])
        return [panoptic(masks, size, (), *choice)[0].ids.add(1).cpu().numpy() for choice in choices]

    @torch.inference_mode()
    def _run(self, pixels: NDArray[np.float32]) -> QueryMasks:
        unit = torch.from_numpy(pixels)[None].to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            masks: QueryMasks = self.model(unit)
        return masks


def load_labeller(location: str, device: str, thresholds: Thresholds | None) -> Labeller:
    """Load a model to label tiles with.

    Raises:
        ModelError: it cannot be loaded, or there is no such device.
    """
    place = choose_device(device)
    model = load_model(Path(location) if Path(location).exists() else location).eval().to(place)
    return Labeller(model, place, choose_precision("auto", place), thresholds)
