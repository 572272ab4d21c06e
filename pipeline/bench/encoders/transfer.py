"""What a trained model is worth for another task: trained further for a few steps, against as many from scratch."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.bench.encoders.trial import Course, Trial
from pipeline.finetune import finetune
from pipeline.rasters.raster import Reader, open_raster
from pipeline.storage.paths import write_atomically
from pipeline.tiling import Window
from pipeline.truth.lookalikes import choose_validation, cluster_images, image_sizes
from pipeline.truth.pairs import Pair, find_pairs

MOST = 120
"""Images that are used, evenly chosen."""

HELD = 0.3
"""Of these, how many are held out, whole groups of look-alikes."""

RATE = 1.5e-3
"""Of new parameters in either training; `finetune` by itself would take a lower one for a trained model."""

CLASSES = ("background", "object")
LIST = "validation.txt"


@dataclass(frozen=True)
class Task:
    """Images with two classes.

    Attributes:
        folder: of images, labels, and the list of those that are held out.
    """

    folder: Path

    def try_on(self, trial: Trial, model: Path, course: Course, steps: int) -> Trial:
        """Add to a trial what its model is worth here; the rate is one, so that only what is known differs."""
        course = replace(course, steps=steps)
        further = self._train(course, str(model), model.with_name(f"{model.name}-further"))
        scratch = self._train(course, f"new:{trial.configuration}", model.with_name(f"{model.name}-scratch"))
        return replace(trial, transferred=further, scratch=scratch)

    def _train(self, course: Course, model: str, output: Path) -> float | None:
        images, labels, held = (str(self.folder / name) for name in ("images", "labels", LIST))
        config = replace(course.config(images, labels, model, output, (held,)), classes=CLASSES, lr=RATE)
        score = finetune(config, looks=1).score
        shutil.rmtree(output)
        return None if score is None else round(score, 4)


def prepare_transfer(images: str, labels: str, folder: Path) -> Task:
    """Write some images with labels of two classes, made of ids of objects, and the list of those held out.

    Raises:
        UsageError: there are no pairs, or a file cannot be read.
    """
    if (folder / LIST).exists():
        return Task(folder)
    pairs = find_pairs(images, labels)
    pairs = pairs[:: -(-len(pairs) // MOST)]
    for pair in pairs:
        _write(pair, folder)
    files = [pair.image for pair in pairs]
    held = choose_validation(cluster_images(files), HELD, 0, image_sizes(files))
    write_atomically(folder / LIST, "".join(f"{pairs[index].image.stem}\n" for index in sorted(held)))
    return Task(folder)


def _write(pair: Pair, folder: Path) -> None:
    for side in ("images", "labels"):
        (folder / side).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(pair.image, folder / "images" / pair.image.name)
    raster = open_raster(pair.labels, needed=1)
    with Reader(raster) as reader:
        ids = reader.read(Window(0, 0, *raster.grid.shape)).pixels[0]
    Image.fromarray((ids > 0).astype(np.uint8)).save(folder / "labels" / f"{pair.image.stem}.png")
