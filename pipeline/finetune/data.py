"""What a training reads: pairs of images and labels, opened and checked against each other before anything is begun."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eomt_core.card import ModelCard
from pipeline.errors import UsageError
from pipeline.finetune.config import FinetuneConfig
from pipeline.finetune.drawn import drawn_weight
from pipeline.preprocess import Scaling, choose_scaling
from pipeline.rasters.raster import Reader, open_raster
from pipeline.rasters.raster_spec import RasterSpec
from pipeline.truth.labels import Labels, gather_classes, open_labels
from pipeline.truth.lookalikes import choose_validation, cluster_images, image_sizes
from pipeline.truth.pairs import Pair, find_pairs, split_pairs
from pipeline.truth.samples import TrainingScene

log = logging.getLogger(__name__)

OBJECT = "object"
"""The class of instances that nobody named."""

BYTES = (0.0, 255.0)
"""The range of a model that was trained on bytes."""

SAMPLED = 32
"""Images whose own ranges are looked at."""


@dataclass(frozen=True)
class Data:
    """Scenes with their truth.

    Attributes:
        training: to learn from.
        validation: to look at, with their stems.
        classes: K names.
        counts: training pixels per class id.
        identity: what tells these scenes from others, in JSON's types.
    """

    training: tuple[TrainingScene, ...]
    validation: tuple[tuple[str, TrainingScene], ...]
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    identity: Mapping[str, Any]

    @property
    def rasters(self) -> list[RasterSpec]:
        """The training images."""
        return [scene.reader.spec for scene in self.training]

    def close(self) -> None:
        """Close all files."""
        for scene in (*self.training, *(scene for _, scene in self.validation)):
            scene.close()


def choose_pairs(config: FinetuneConfig) -> tuple[list[Pair], list[Pair]]:
    """The pairs to train on, and those for validation.

    Raises:
        UsageError: No pairs, or a validation that is none of them.
    """
    pairs = find_pairs(config.images, config.labels)
    if len(config.val) == 1 and config.val[0].endswith("%"):
        return _draw_validation(pairs, config.val[0], config.seed)
    return split_pairs(pairs, config.val)


def _draw_validation(pairs: list[Pair], text: str, seed: int) -> tuple[list[Pair], list[Pair]]:
    share, images = _share(text), [pair.image for pair in pairs]
    held = choose_validation(cluster_images(images), share, seed, image_sizes(images))
    if not 0 < len(held) < len(pairs):
        many = f"{len(pairs)} pair{'s' * (len(pairs) != 1)}"
        raise UsageError(f"--val {text}: of {many} that is {len(held)}; give more images, or name some with --val")
    chosen = [pairs[index] for index in sorted(held)]
    return [pair for index, pair in enumerate(pairs) if index not in held], chosen


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError as error:
        raise UsageError(f"--val {text}: give stems, files, a .txt list, or a percentage such as 20%") from error
    if not 0 < share < 1:
        raise UsageError(f"--val {text}: give more than 0% and less than 100%")
    return share


def open_data(
    config: FinetuneConfig, task: str, card: ModelCard | None, bands: int | None, drawn: Sequence[Pair] = ()
) -> Data:
    """Open all pairs and look through their labels.

    Args:
        config: the choices.
        task: semantic or instance.
        card: of the model that is trained further.
        bands: that it takes; None: three where the images have so many, else one.
        drawn: drawn scenes, to be trained on besides.

    Raises:
        UsageError: A file that cannot be read, or labels that do not fit; the message names file and value.
    """
    training, validation = choose_pairs(config)
    rasters = {pair: _open_image(pair, config, card, bands) for pair in (*training, *validation, *drawn)}
    _check_alike(list(rasters.values()), config)
    labels, classes = _open_labels(rasters, config, task, card)
    counts, seen = _count(labels, training), _count(labels, validation)
    _check_counts(counts, classes, task, config)
    if validation and not (seen[1] if task == "instance" else seen.total()):
        what = "object" if task == "instance" else "pixel with a class"
        raise UsageError(f"--val {' '.join(config.val)}: there is no {what} in it to compare with; choose other pairs")
    scaling = _common_scaling(config.scale, [rasters[pair] for pair in training], card)
    scenes = {pair: _scene(rasters[pair], labels[pair], scaling, task) for pair in rasters}
    if drawn:
        weight = drawn_weight([scenes[pair].weight for pair in training], len(drawn))
        scenes |= {pair: replace(scenes[pair], weight=weight) for pair in drawn}
    return Data(
        tuple(scenes[pair] for pair in (*training, *drawn)),
        tuple((pair.stem, scenes[pair]) for pair in validation),
        classes,
        tuple(counts[index] for index in range(len(classes))),
        {
            "training_pairs": len(training),
            "validation_pairs": len(validation),
            "checksum_of_the_labels": _checksum(labels, rasters, (*training, *validation)),
        },
    )


def _count(labels: Mapping[Pair, Labels], pairs: Iterable[Pair]) -> Counter[int]:
    """Pixels by class."""
    counts: Counter[int] = Counter()
    for pair in pairs:
        counts.update(labels[pair].values().counts)
        labels[pair].close()  # there may be more of them than a process may have open
    return counts


def _checksum(labels: Mapping[Pair, Labels], rasters: Mapping[Pair, RasterSpec], pairs: Iterable[Pair]) -> str:
    """Of names, sizes and what the labels hold, wherever the files lie."""
    lines = [f"{pair.stem} {rasters[pair].grid.shape} {labels[pair].values()}\n" for pair in pairs]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def _open_image(pair: Pair, config: FinetuneConfig, card: ModelCard | None, bands: int | None) -> RasterSpec:
    default = card.bands if card else None
    if config.bands is not None:
        return open_raster(pair.image, bands=config.bands, default_bands=default, needed=config.bands.count(",") + 1)
    if bands is None:
        raster = open_raster(pair.image, needed=1)
        bands = 3 if raster.count - (raster.alpha is not None) >= 3 else 1
    return open_raster(pair.image, default_bands=default, needed=bands)


def _check_alike(rasters: Sequence[RasterSpec], config: FinetuneConfig) -> None:
    """Refuse images of which one model cannot make sense."""
    first = rasters[0]
    for raster in rasters:
        if len(raster.bands) != len(first.bands):
            counts = len(raster.bands), len(first.bands)
            raise UsageError(f"{raster.path}: gives {counts[0]} bands, {first.path} {counts[1]}; choose with --bands")
        if config.scale == "auto" and raster.dtype != first.dtype:
            raise UsageError(
                f"{raster.path}: pixels are {raster.dtype}, in {first.path} {first.dtype}; give one range for all with "
                "--scale LO,HI"
            )


def _open_labels(
    rasters: dict[Pair, RasterSpec], config: FinetuneConfig, task: str, card: ModelCard | None
) -> tuple[dict[Pair, Labels], tuple[str, ...]]:
    """Labels by pair, and the names of the classes."""
    classes = config.classes
    if task == "instance":
        classes = classes or (card.classes if card else (OBJECT,))
        if len(classes) != 1:
            whose = f"--classes {','.join(classes)}" if config.classes else f"--model {config.model}"
            raise UsageError(f"{whose}: {len(classes)} classes, but instances have one; give its name with --classes")
        return {pair: _labels(pair, raster, config, "instance", None) for pair, raster in rasters.items()}, classes
    opened = {pair: _labels(pair, raster, config, "semantic", classes) for pair, raster in rasters.items()}
    if classes is None:
        classes = _names(opened, card)
        # Only now is it known which number a name has.
        opened = {pair: _labels(pair, raster, config, "semantic", classes) for pair, raster in rasters.items()}
    return opened, classes


def _labels(
    pair: Pair, raster: RasterSpec, config: FinetuneConfig, task: str, classes: tuple[str, ...] | None
) -> Labels:
    kind = "instance" if task == "instance" else "semantic"
    return open_labels(pair.labels, raster, kind, classes, config.ignore, config.class_field, config.outside)  # type: ignore[arg-type]


def _names(opened: dict[Pair, Labels], card: ModelCard | None) -> tuple[str, ...]:
    """What the labels call their classes; numbers that a model has names for are those."""
    for labels in opened.values():
        labels.names()
        labels.close()  # there may be more of them than a process may have open
    names = gather_classes(list(opened.values()))
    numbered = all(name == f"class_{index}" for index, name in enumerate(names))
    return card.classes if card and numbered and len(names) <= len(card.classes) else names


def _check_counts(counts: Counter[int], classes: tuple[str, ...], task: str, config: FinetuneConfig) -> None:
    if task == "instance" and not counts[1]:
        raise UsageError(f"{config.labels}: no image to train on has an object; check --ignore and the files")
    if not counts.total():
        raise UsageError(f"{config.labels}: every pixel is ignored (--ignore {config.ignore}); nothing can be learned")
    if task == "instance":
        return
    if len(classes) == 1:
        raise UsageError(
            f"{config.labels}: {classes[0]} is the only class, there is nothing to tell it from; give more, or with "
            "--outside NAME what lies around polygons"
        )
    absent = [name for index, name in enumerate(classes) if not counts[index]]
    if absent and not config.drawn:
        log.warning("no pixel to train on is %s: the model will not find any", ", ".join(absent))


def _common_scaling(text: str, rasters: Sequence[RasterSpec], card: ModelCard | None) -> Scaling:
    """One range per band for all images: a given one, the card's, that of bytes, else the median of the images' own."""
    found = [choose_scaling(text, raster, _known_range(card, raster)) for raster in rasters[:SAMPLED]]
    lo, hi = (np.median(ends, axis=0) for ends in ([s.lo for s in found], [s.hi for s in found]))
    return Scaling(tuple(map(float, lo)), tuple(map(float, hi)))


def _known_range(card: ModelCard | None, raster: RasterSpec) -> Sequence[tuple[float, float]]:
    """The card's range, unless it is one of bytes where these are none, or one per band for fewer bands."""
    ranges = tuple(dict.fromkeys(card.value_range)) if card else ()
    if ranges == (BYTES,) and raster.dtype != "uint8":
        return ()
    if len(ranges) <= 1:
        return ranges
    return card.value_range if card and len(card.value_range) == len(raster.bands) else ()


def _scene(raster: RasterSpec, labels: Labels, scaling: Scaling, task: str) -> TrainingScene:
    rows, cols = raster.grid.shape
    # Large scenes have more to show, but not as much more as they are larger.
    return TrainingScene(Reader(raster), labels, scaling, task == "instance", (rows * cols) ** 0.5)
