"""Pictures of a training and of an evaluation, as PNG: curves, confusion, and images beside truth and prediction.

They are 900 pixels wide or little more. Lines are told apart by colours that colour-blind people can tell apart, and by
more than colour; shares are shades of one hue.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.export.colours import tint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pipeline.evaluate.confusion import Confusion

Labels = NDArray[np.integer]
Row = tuple[NDArray[np.uint8], Labels, Labels]
"""An image (3, H, W), its truth (H, W) and what was predicted (H, W)."""

DPI = 100
WIDTH = 9.0
"""Inches, which make 900 pixels."""

BLUE, VERMILION, PALE, GREY = "#0072b2", "#d55e00", "#9ecae1", "#b0b0b0"
"""The first two are of Okabe and Ito's palette. Grey is what has no class."""

SMOOTHED = 50
"""Points that a loss curve has after averaging."""

WRITTEN = 16
"""Classes up to which the cells of a confusion matrix have room for numbers."""

MOST_ROWS = 40
"""Classes of a confusion matrix that are shown, those with the most pixels."""


def draw_loss_curve(
    path: Path,
    steps: Sequence[int],
    losses: Sequence[float],
    validations: Sequence[tuple[int, float]] = (),
    score: str = "mIoU",
) -> None:
    """Draw a training: the loss above, and below it the validation's score where there is one.

    Args:
        path: The PNG.
        steps: Where losses were noted.
        losses: As many.
        validations: Step and score, in order.
        score: The score's name.

    Raises:
        UsageError: There is no matplotlib.
    """
    figure = _figure(5.5 if validations else 3.5)
    axes = figure.subplots(2 if validations else 1, sharex=True, squeeze=False)[:, 0]
    _draw_losses(axes[0], np.asarray(steps), np.asarray(losses, np.float64))
    if validations:
        axes[1].plot(*zip(*validations, strict=True), color=VERMILION, marker="o", markersize=5)
        best = max(validations, key=lambda pair: pair[1])
        axes[1].set_title(f"best {_plain(score)} {best[1]:.3f} at step {best[0]}", fontsize=10, loc="right")
        axes[1].set_ylabel(_plain(score))
        axes[1].grid(alpha=0.3)
    axes[-1].set_xlabel("step")
    figure.savefig(path, format="png")


def _draw_losses(axes: "Axes", steps: NDArray[Any], losses: NDArray[np.float64]) -> None:
    size = max(1, len(losses) // SMOOTHED)
    axes.plot(steps, losses, color=PALE, linewidth=0.8, label="each" if size > 1 else None)
    groups = range(0, len(losses), size)
    middles = [steps[start : start + size].mean() for start in groups]
    means = [losses[start : start + size].mean() for start in groups]
    axes.plot(middles, means, color=BLUE, linewidth=2, label=f"mean of {size}" if size > 1 else None)
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    if size > 1:
        axes.legend(frameon=False)


def draw_confusion(path: Path, confusion: "Confusion", classes: Sequence[str]) -> None:
    """Draw a confusion matrix: of each true class, the share that was taken for each class.

    Args:
        path: The PNG.
        confusion: The counts.
        classes: Names, by class id.

    Raises:
        UsageError: There is no matplotlib.
    """
    ids = _largest(confusion)
    columns = [*ids, *([len(classes)] if confusion.unlabelled else [])]
    counts = confusion.matrix[np.ix_(ids, columns)]
    shares = counts / np.maximum(confusion.truth[ids], 1)[:, None]
    names = [_plain(name) for name in (*classes, "unlabelled")]
    roomy = len(ids) <= WRITTEN
    figure = _figure(2 + (0.55 if roomy else 0.2) * max(len(ids), 4))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, label="share of the true class", aspect=30, fraction=0.05)
    turned = {"rotation": 45, "ha": "right"} if roomy else {"rotation": 90}
    axes.set_xticks(range(len(columns)), [names[id] for id in columns], fontsize=10 if roomy else 8, **turned)
    axes.set_yticks(range(len(ids)), [names[id] for id in ids], fontsize=10 if roomy else 8)
    axes.set(xlabel="predicted class", ylabel="true class")
    fewer = f"; the {len(ids)} largest classes" if len(ids) == MOST_ROWS else ""
    axes.set_title(f"mIoU {confusion.miou:.3f}, accuracy {confusion.accuracy:.3f}{fewer}", fontsize=11)
    if roomy:
        _write_cells(axes, counts, shares)
    figure.savefig(path, format="png")


def _largest(confusion: "Confusion") -> list[int]:
    """The class ids that occur (all where none does), at most as many as can be shown."""
    absent = set(confusion.absent) if confusion.pixels else set()
    present = [id for id in range(confusion.num_classes) if id not in absent]
    pixels = confusion.truth + confusion.predicted
    return sorted(sorted(present, key=lambda id: -pixels[id])[:MOST_ROWS])


def _write_cells(axes: "Axes", counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    """A percentage and a count in each cell, light on dark shades."""
    size = 9 if counts.shape[1] <= 8 else 7
    for (row, col), count in np.ndenumerate(counts):
        share = shares[row, col]
        colour = "white" if share > 0.55 else "black"
        axes.text(col, row, f"{share:.0%}\n{_short(int(count))}", ha="center", va="center", fontsize=size, color=colour)


def _short(count: int) -> str:
    """A count in four characters or so."""
    for unit, sign in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{sign}"
    return str(count)


def draw_comparison(path: Path, rows: Sequence[Row], colours: Sequence[str], classes: Sequence[str]) -> None:
    """Draw images beside their true and predicted classes, with a legend of the classes that occur.

    Args:
        path: The PNG.
        rows: Image (3, H, W) uint8, truth (H, W), prediction (H, W); what is no class id is grey.
        colours: `#rrggbb`, by class id.
        classes: Names, by class id.

    Raises:
        UsageError: There is no matplotlib.
    """
    palette = _palette(colours)
    present: set[int] = set()
    panels = []
    for image, truth, predicted in rows:
        maps = [np.where((ids >= 0) & (ids < len(classes)), ids, len(classes)) for ids in (truth, predicted)]
        present.update(*(np.unique(ids).tolist() for ids in maps))
        panels.append([image.transpose(1, 2, 0), *(palette[ids] for ids in maps)])
    names = (*classes, "no label")
    figure = _panels(panels, legend_rows=-(-len(present) // 6))
    _legend(figure, [(names[id], palette[id] / 255) for id in sorted(present)])
    figure.savefig(path, format="png")


def _palette(colours: Sequence[str]) -> NDArray[np.uint8]:
    """Red, green, blue (K + 1, 3) by class id, the last one of what has no class."""
    return np.array([list(bytes.fromhex(colour[1:])) for colour in (*colours, GREY)], np.uint8)


def _legend(figure: "Figure", entries: Sequence[tuple[str, NDArray[np.float64]]]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=tuple(colour), edgecolor="black", label=_plain(name)) for name, colour in entries]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, max(1, len(handles))), frameon=False)


def draw_instances(path: Path, rows: Sequence[Row]) -> None:
    """Draw images beside their true and predicted instances, each in a colour of its own on black.

    Args:
        path: The PNG.
        rows: Image (3, H, W) uint8, true ids (H, W), predicted ids (H, W); 0 is background. An id has one colour, but
            the same id in truth and prediction does not make the same object.

    Raises:
        UsageError: There is no matplotlib.
    """
    panels = [[image.transpose(1, 2, 0), tint(truth), tint(predicted)] for image, truth, predicted in rows]
    _panels(panels, legend_rows=0).savefig(path, format="png")


def draw_attention(
    path: Path,
    scene: tuple[NDArray[np.uint8], Labels],
    attention: Mapping[str, NDArray[np.floating]],
    colours: Sequence[str],
    classes: Sequence[str],
) -> None:
    """Draw what queries attend to, a row for each model and a column for each query, beside the tile and its truth.

    Args:
        path: The picture, PNG or WebP.
        scene: The image (3, H, W) and its truth (H, W); what is below 0 there is not known.
        attention: By the model's title (Q, h, w); the query of class k is the k-th.
        colours: `#rrggbb`, by class id.
        classes: Names, by class id.

    Raises:
        UsageError: There is no matplotlib.
    """
    image, palette = scene[0].transpose(1, 2, 0), _palette(colours)
    truth = palette[np.where(scene[1] < 0, len(classes), scene[1])]
    columns = (*("image", "truth"), *classes)
    figure = _figure((WIDTH / len(columns) + 0.15) * len(attention) + 0.6)
    grid = figure.subplots(len(attention), len(columns), squeeze=False)
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(_plain(name), fontsize=9)
    for row, (title, maps) in zip(grid, attention.items(), strict=True):
        row[0].set_ylabel(_plain(title).replace(" on ", "\non "), fontsize=8)
        for axes, panel in zip(row, (image, truth, *(_lit_up(image, seen) for seen in maps)), strict=True):
            axes.imshow(panel, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
    _legend(figure, [(name, palette[id] / 255) for id, name in enumerate(classes)])
    figure.savefig(path, dpi=DPI)


def _lit_up(image: NDArray[np.uint8], seen: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A grey image (H, W, 3), from blue where nothing is attended to (h, w) to red where most is."""
    rows, cols = (side // cells for side, cells in zip(image.shape[:2], seen.shape, strict=True))
    share = np.kron(seen / max(float(seen.max()), 1e-12), np.ones((rows, cols)))[..., None]
    grey = image.mean(2, keepdims=True) / 255
    shade = np.array([1.0, 0.25, 0.0]) * share + np.array([0.1, 0.15, 0.35]) * (1 - share)
    made: NDArray[np.uint8] = (255 * (0.35 * grey + 0.65 * shade)).astype(np.uint8)
    return made


def _panels(rows: Sequence[Sequence[NDArray[np.uint8]]], legend_rows: int) -> "Figure":
    """Rows of three pictures side by side under their titles; all as wide as a third of the figure."""
    heights = [row[0].shape[0] / row[0].shape[1] for row in rows]
    figure = _figure(WIDTH / 3 * sum(heights) + 0.4 + 0.3 * legend_rows)
    grid = figure.subplots(len(rows), 3, squeeze=False, height_ratios=heights)
    for axes, title in zip(grid[0], ("image", "truth", "prediction"), strict=True):
        axes.set_title(title, fontsize=11)
    for axes, picture in zip(grid.flat, (picture for row in rows for picture in row), strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_axis_off()
    return figure


def require_matplotlib() -> None:
    """See that pictures can be drawn, before there is much to be drawn.

    Raises:
        UsageError: They cannot.
    """
    if find_spec("matplotlib") is None:
        raise UsageError("pictures need matplotlib, which is not installed: pip install 'eomt-batch[training]'")


def _figure(height: float) -> "Figure":
    """A figure without a window, so many inches high."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain(name: str) -> str:
    """A name in which matplotlib finds no formula."""
    return name.replace("$", r"\$")
