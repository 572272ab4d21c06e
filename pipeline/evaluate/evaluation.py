"""A mosaic against the truth, block by block: a gigapixel takes no more memory than a block and its counts."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, OutputError
from pipeline.evaluate.confusion import Confusion, StrayLabel
from pipeline.evaluate.instances import Contingency, Quality
from pipeline.evaluate.labels import VOID, Ignore, Kind, Labels, open_labels
from pipeline.evaluate.tally import Tally
from pipeline.mosaic.mosaic import Mosaic, open_mosaic
from pipeline.rasters.raster import MAX_BLOCK_BYTES, Reader
from pipeline.rasters.source import shown
from pipeline.report import OnProgress, Progress
from pipeline.steps.journal import Journal
from pipeline.stitch.seams import NO_ID, SeamCounter, Seams
from pipeline.storage.paths import AnyPath
from pipeline.tiling import TilePlan, Window, output_blocks

SIDE = 1024
"""Pixels a side that blocks should have; whole chunks of the mosaic, so that each is decoded once."""


@dataclass(frozen=True)
class Evaluation:
    """What a comparison of a mosaic and labels has found.

    Attributes:
        mosaic: The mosaic.
        labels: The labels' file.
        kind: What was compared.
        names: Of the classes, by id.
        ignore: The labels' value that was left out, or None.
        pixels: Of the mosaic.
        ignored: Pixels left out because the labels say nothing there.
        nodata: Pixels left out because the mosaic has nodata there, though the labels have something.
        confusion: Of classes.
        quality: Of instances.
        ap50: Of instances, average precision at an IoU of one half.
        seams: How far the tiles show, of classes or of instance ids.
        notes: What the reader should know.
    """

    mosaic: str
    labels: str
    kind: Kind
    names: tuple[str, ...]
    ignore: int | None
    pixels: int
    ignored: int
    nodata: int
    confusion: Confusion | None
    quality: Quality | None
    ap50: float | None
    seams: Seams | None
    notes: tuple[str, ...]

    @property
    def compared(self) -> int:
        """Pixels that were compared."""
        return self.pixels - self.ignored - self.nodata

    def to_json(self) -> dict[str, Any]:
        """In JSON's types; what is not a number is null."""
        names = ("mosaic", "labels", "kind", "ignore", "pixels", "compared", "ignored", "nodata")
        found: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.confusion is not None:
            found |= self.confusion.to_json(self.names)
        if self.quality is not None:
            found |= self.quality.scores._asdict() | {"ap50": self.ap50} | asdict(self.quality)
        if self.seams is not None:
            seams = self.seams
            found["seams"] = seams._asdict() | {"relative": seams.relative, "excess": seams.excess}
        return cast(dict[str, Any], _finite(found | {"notes": list(self.notes)}))


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(part) for key, part in value.items()}
        case list():
            return [_finite(part) for part in value]
        case _:
            return value


def evaluate_mosaic(
    path: AnyPath | str,
    labels: Path | str,
    *,
    kind: Kind | None = None,
    ignore: Ignore = "file",
    scores: Mapping[int, float] | None = None,
    progress: OnProgress | None = None,
    allow_vrt: bool = False,
    max_block_bytes: int = MAX_BLOCK_BYTES,
) -> Evaluation:
    """Compare a mosaic with labels.

    Args:
        path: The mosaic. With its run folder beside it, seams are counted too.
        labels: A raster of one band of integers on the mosaic's grid.
        kind: What the labels are; default: instances if the mosaic has them, else classes.
        ignore: See `open_labels`.
        scores: By instance id, for AP50; default: the mosaic's mean confidence over each instance.
        progress: Hears of every block.
        allow_vrt: Whether the labels may be a VRT.
        max_block_bytes: Labels with larger blocks are refused.

    Raises:
        InputError: There is no mosaic, or the labels cannot be compared with it.
    """
    mosaic = open_mosaic(path)
    kind = kind or ("classes" if mosaic.instances is None else "instances")
    if kind == "instances" and mosaic.instances is None:
        raise InputError(f"{path}: has no instances to compare with instance labels; give --labels classes")
    truth = open_labels(labels, mosaic, kind, ignore, allow_vrt=allow_vrt, max_block_bytes=max_block_bytes)
    plan, notes = _plan(mosaic)
    scorer: _Scorer = _Classes(mosaic) if kind == "classes" else _Instances(mosaic, scores)
    seams = None if plan is None else SeamCounter(plan, mosaic.nodata if kind == "classes" else NO_ID)
    _walk(mosaic, truth, scorer, seams, progress or (lambda _: None))
    return Evaluation(
        mosaic=str(path),
        labels=shown(str(labels)),
        kind=kind,
        names=mosaic.class_names,
        ignore=truth.ignore,
        pixels=math.prod(mosaic.shape),
        seams=None if seams is None else seams.seams,
        notes=(*_remarks(mosaic, truth), *notes),
        **scorer.found(),
    )


class _Scorer(Protocol):
    """One way of comparing blocks."""

    def add(self, window: Window, truth: NDArray[np.int64]) -> NDArray[np.integer]:
        """Compare a block (h, w); gives the labels that seams are counted on."""

    def found(self) -> dict[str, Any]:
        """The fields of an `Evaluation` that it fills."""


class _Classes:
    def __init__(self, mosaic: Mosaic) -> None:
        self._classes = mosaic.classes
        self._confusion = Confusion(len(mosaic.class_names), VOID)

    def add(self, window: Window, truth: NDArray[np.int64]) -> NDArray[np.integer]:
        classes = np.asarray(self._classes[window.slices])
        self._confusion.add(truth, classes)
        return classes

    def found(self) -> dict[str, Any]:
        confusion = self._confusion
        counts = {"ignored": confusion.ignored, "nodata": confusion.nodata}
        return {"confusion": confusion, "quality": None, "ap50": None} | counts


class _Instances:
    def __init__(self, mosaic: Mosaic, scores: Mapping[int, float] | None) -> None:
        self._mosaic = mosaic
        self._scores = scores
        self._contingency = Contingency(VOID)
        self._areas, self._confidences = Tally(), Tally()
        self._ignored = self._nodata = 0

    def add(self, window: Window, truth: NDArray[np.int64]) -> NDArray[np.integer]:
        names = ("classes", "confidence", "instances")
        classes, confidence, ids = (np.asarray(self._mosaic.array(name)[window.slices]) for name in names)
        valid, known = classes != self._mosaic.nodata, truth != VOID
        self._ignored += int((~known).sum())
        self._nodata += int((known & ~valid).sum())
        self._contingency.add(np.where(valid, truth, VOID), np.where(valid, ids, 0))
        things = valid & (ids > 0)
        self._areas.add(ids[things])
        self._confidences.add(ids[things], confidence[things])
        return np.where(valid, ids, NO_ID)

    def found(self) -> dict[str, Any]:
        scores = self._mean_confidences() if self._scores is None else self._scores
        ap50 = self._contingency.detections(scores).average_precision
        counts = {"ignored": self._ignored, "nodata": self._nodata}
        return {"confusion": None, "quality": self._contingency.quality(), "ap50": ap50} | counts

    def _mean_confidences(self) -> dict[int, float]:
        (ids, sums), (_, areas) = self._confidences.items(), self._areas.items()
        return dict(zip(ids.tolist(), (sums / areas).tolist(), strict=True))


def _walk(mosaic: Mosaic, labels: Labels, scorer: _Scorer, seams: SeamCounter | None, progress: OnProgress) -> None:
    """Compare all blocks, row by row."""
    chunk, total, done = mosaic.classes.chunks[0], math.prod(mosaic.shape), 0
    progress(Progress("evaluate", 0, total, 0, None))
    with Reader(labels.raster) as reader:
        for block in output_blocks(mosaic.shape, chunk * max(1, SIDE // chunk)):
            window = block.window
            try:
                compared = scorer.add(window, labels.read(reader, window))
            except StrayLabel as stray:
                raise _refusal(stray, labels, mosaic, window) from stray
            if seams is not None:
                seams.add(compared, window.row, window.col)
            done += window.height * window.width
            progress(Progress("evaluate", done, total, done, block.name))


def _refusal(stray: StrayLabel, labels: Labels, mosaic: Mosaic, window: Window) -> InputError:
    row, col = window.row + stray.index[0], window.col + stray.index[1]
    where = f"at row {row}, column {col}"
    if stray.of_prediction:
        return InputError(f"{mosaic.path}: {stray.value} {where} is no {stray.kind}; its pixels are damaged")
    return InputError(
        f"{shown(labels.raster.path)}: {stray.value} {where} is no {stray.kind} of {mosaic.path}; "
        f"leave such pixels out with --ignore {stray.value}, or give other labels"
    )


def _plan(mosaic: Mosaic) -> tuple[TilePlan | None, list[str]]:
    """How the mosaic was cut into tiles; or why nobody knows."""
    journal = Journal.of(mosaic.path.resolve())
    if not journal.exists:
        return None, [f"no seam metrics: {journal.folder.name}/run.json, which says where the tiles lay, is not there"]
    try:
        plan = journal.spec().plan
    except OutputError as error:
        return None, [f"no seam metrics: {error}"]
    if plan.shape != mosaic.shape:
        return None, [f"no seam metrics: {journal.folder.name} is of another raster"]
    return plan, [] if journal.complete else ["the run is not complete: what is missing counts as nodata"]


def _remarks(mosaic: Mosaic, labels: Labels) -> list[str]:
    grid, place = labels.raster.grid, mosaic.place()
    placed = (grid.transform is None, labels.raster.crs is None) == (place.transform is None, place.crs is None)
    return [] if placed else ["labels and mosaic do not both say where they lie: compared pixel by pixel"]
