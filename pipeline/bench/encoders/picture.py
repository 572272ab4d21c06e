"""A picture of what single queries attend to, on a real scene."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from eomt_core.describe import describe_model
from eomt_core.labels import class_colours
from pipeline.bench.encoders.experiment import CONFIGURATIONS, Experiment, held_out, model_of
from pipeline.bench.encoders.focus import TILES, Look, attends, looks_of
from pipeline.errors import UsageError
from pipeline.export.charts import draw_attention


def draw_experiment(experiment: Experiment, path: Path) -> None:
    """Draw the attention of each configuration's first model, on the tile in which classes are most even.

    Raises:
        UsageError: no configuration attends, other classes are named than there are, or there is no matplotlib.
    """
    names = [name for name in experiment.names if attends(name)]
    if not names:
        raise UsageError(f"--attention {path}: queries of {', '.join(experiment.names)} attend to nothing")
    looks = {name: list(_looks(experiment, name)) for name in names}
    scenes = looks[names[0]]
    index = max(range(len(scenes)), key=lambda index: _evenness(scenes[index]))
    bands = [0, 1, 2] if len(scenes[index].pixels) >= 3 else [0, 0, 0]
    image = (255 * scenes[index].pixels[bands]).astype(np.uint8)
    classes = _classes(experiment, names[0])
    attention = {CONFIGURATIONS[name]: looks[name][index].attention for name in names}
    draw_attention(path, (image, scenes[index].truth), attention, class_colours(classes), classes)


def _looks(experiment: Experiment, name: str) -> Iterator[Look]:
    return looks_of(model_of(experiment, name), held_out(experiment), experiment.tile, TILES)


def _classes(experiment: Experiment, name: str) -> tuple[str, ...]:
    known = describe_model(model_of(experiment, name)).card.classes
    if experiment.classes and len(experiment.classes) != len(known):
        raise UsageError(f"--classes {','.join(experiment.classes)}: the labels have {len(known)}; name as many")
    return experiment.classes or known


def _evenness(look: Look) -> float:
    """Entropy of the classes, in the tile's pixels: those that are not known count nothing."""
    counts = np.bincount(look.truth[look.truth >= 0])
    shares = counts[counts > 0] / look.truth.size
    return float(-(shares * np.log(shares)).sum())
