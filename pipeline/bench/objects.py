"""How good a model of objects is on images that it sees whole, each in a forward of its own."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eomt_core.describe import ModelInfo, describe_model
from pipeline.errors import UsageError
from pipeline.evaluate import Quality, average
from pipeline.finetune.validation import quality_of
from pipeline.preprocess import choose_scaling
from pipeline.rasters.raster import Reader, open_raster
from pipeline.tiling import Window, ceil_to
from pipeline.truth.labels import open_labels
from pipeline.truth.pairs import Pair
from pipeline.truth.samples import TrainingScene

Label = Callable[[NDArray[np.float32]], NDArray[np.int32]]


@dataclass(frozen=True)
class ObjectsRow:
    """Quality over some images.

    Attributes:
        images: how many.
        pq: panoptic quality, the objects of all images pooled.
        sq: its mean IoU of matched objects.
        rq: its F1 score.
        mean_pq: mean of the images' own panoptic qualities.
        matched: objects that were found.
        spurious: objects that are none.
        missed: objects that were not found.
    """

    images: int
    pq: float
    sq: float
    rq: float
    mean_pq: float
    matched: int
    spurious: int
    missed: int

    @classmethod
    def of(cls, qualities: Sequence[Quality]) -> "ObjectsRow":
        """Pool the qualities of images."""
        pooled = sum(qualities, Quality(0, 0, 0, 0.0))
        pq, sq, rq, mean = (round(value, 4) for value in (*pooled.scores, average(qualities).pq))
        return cls(len(qualities), pq, sq, rq, mean, pooled.matched, pooled.spurious, pooled.missed)


def measure_objects(pairs: Sequence[Pair], model: str, device: str = "auto") -> dict[str, ObjectsRow]:
    """Score a model of objects, over all images and by their size.

    Raises:
        ModelError: no such model or device.
        UsageError: an image or its labels will not do.
    """
    label, info = load_objects_labeller(model, device), describe_model(model)
    found: dict[str, list[Quality]] = {"all": []}
    for pair in pairs:
        with closing(open_scene(pair, info)) as scene:
            quality = _measure(scene, info.architecture.min_multiple, label)
        rows, cols = scene.shape
        found["all"].append(quality)
        found.setdefault(f"{rows}x{cols}", []).append(quality)
    return {name: ObjectsRow.of(qualities) for name, qualities in found.items()}


def load_objects_labeller(model: str, device: str) -> Label:
    """A model of objects, with the thresholds of its card.

    Raises:
        ModelError: no such model or device.
        UsageError: it is for something else.
    """
    from eomt_core.labeller import load_labeller

    card = describe_model(model).card
    if card.choose_task(None) != "instance":
        raise UsageError(f"--model {model}: is for {card.default_task}; give a model of objects, such as nuclei-tiny")
    return load_labeller(model, device, (card.score_threshold, card.overlap_threshold, card.mask_threshold))


def open_scene(pair: Pair, info: ModelInfo) -> TrainingScene:
    """An image as a model sees it, with its true objects.

    Raises:
        UsageError: the image or its labels will not do.
    """
    raster = open_raster(pair.image, default_bands=info.card.bands, needed=info.architecture.in_channels)
    scaling = choose_scaling("auto", raster, info.card.value_range)
    return TrainingScene(Reader(raster), open_labels(pair.labels, raster, "instance", None), scaling, instances=True)


def _measure(scene: TrainingScene, lattice: int, label: Label) -> Quality:
    rows, cols = scene.shape
    pixels, truth = scene.read(Window(0, 0, ceil_to(rows, lattice), ceil_to(cols, lattice)))
    return quality_of(truth, label(pixels))
