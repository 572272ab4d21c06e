"""Pictures of a training: its losses, and what the model makes of scenes that it does not learn from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eomt_core.labels import class_colours
from pipeline.export.charts import draw_comparison, draw_confusion, draw_instances, draw_loss_curve, require_matplotlib
from pipeline.finetune.validation import Example, Verdict

require = require_matplotlib


def draw_course(folder: Path, losses: Sequence[float], scores: Sequence[tuple[int, float]], measure: str) -> None:
    """Draw the losses and validations of a training into `loss.png`."""
    draw_loss_curve(folder / "loss.png", range(1, len(losses) + 1), losses, scores, measure)


def draw_verdict(folder: Path, verdict: Verdict, classes: Sequence[str]) -> None:
    """Draw tiles with truth and answer into `validation.png`, and the confusion of classes into `confusion.png`."""
    rows = [(_image(example), example.truth, example.answer) for example in verdict.examples]
    if verdict.confusion is None:  # what is not known is no object
        draw_instances(folder / "validation.png", [(image, truth.clip(0), answer) for image, truth, answer in rows])
        return
    draw_confusion(folder / "confusion.png", verdict.confusion, classes)
    draw_comparison(folder / "validation.png", rows, class_colours(classes), classes)


def _image(example: Example) -> NDArray[np.uint8]:
    """Three bands of a tile as bytes, stretched over its own range: a picture for people."""
    pixels = example.pixels[:3] if len(example.pixels) >= 3 else example.pixels[:1].repeat(3, axis=0)
    low, high = np.percentile(pixels, (1, 99))
    image: NDArray[np.uint8] = (np.clip((pixels - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    return image
