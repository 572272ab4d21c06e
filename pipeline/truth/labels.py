"""Truth on the grid of a raster: what `finetune` learns from.

Labels are a raster of class indexes or instance ids on the image's own grid, or polygons (see `polygons`). Nothing is
read as a whole: a window of labels costs about what the same window of the image does.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from eomt_core.training.batch import IGNORE
from pipeline.errors import BlockError, InputError, UsageError
from pipeline.rasters.raster_spec import RasterSpec
from pipeline.rasters.source import shown, sniff
from pipeline.tiling import Window
from pipeline.truth.class_names import numbered
from pipeline.truth.label_raster import RasterTruth
from pipeline.truth.polygons import open_polygons

__all__ = ["IGNORE", "Labels", "Values", "gather_classes", "open_labels"]

LONGEST_TALLY = 2**22
"""Values up to this are counted in an array; larger ones are sorted."""

Task = Literal["semantic", "instance"]


class Truth(Protocol):
    """Where labels come from."""

    def read(self, window: Window) -> NDArray[np.int32]:
        """Values of a window, (h, w), `IGNORE` where there is none."""

    def windows(self) -> Iterator[Window]:
        """Windows that cover the raster once, as they are best read."""

    def close(self) -> None:
        """Close what is open."""


class Values(NamedTuple):
    """What labels hold.

    Attributes:
        counts: Pixels by class; of instance labels, those of the background under 0 and of all instances under 1.
        ignored: Pixels that say nothing.
        instances: Distinct instances, 0 for a semantic task.
    """

    counts: Mapping[int, int]
    ignored: int
    instances: int


class Labels:
    """Truth, read by window from any thread. Close it, or use it in `with`, once no thread reads any more.

    Args:
        path: The file.
        task: What the values mean.
        classes: Names by class index; None for an instance task, and for a raster of classes without given names.
        truth: Where the values come from.
    """

    def __init__(self, path: str, task: Task, classes: tuple[str, ...] | None, truth: Truth) -> None:
        self.path = path
        self.task = task
        self.classes = classes
        self._truth = truth
        self._values: Values | None = None
        self._once = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the handles of all threads; a later read opens anew."""
        self._truth.close()

    def read(self, window: Window) -> NDArray[np.int32]:
        """Class indexes, or instance ids with 0 for the background, of a window inside the raster, (h, w).

        Pixels that say nothing are `IGNORE`.

        Raises:
            BlockError: The file cannot be read there.
            InputError: A pixel has a class outside the list, or a value that is no class or id at all.
        """
        found = self._truth.read(window)
        if self.classes is not None and found.size and found.max() >= len(self.classes):
            self._check(_tally(found))
        return found

    def values(self) -> Values:
        """What the labels hold, looked through window by window at the first call.

        Raises:
            InputError: The file cannot be read, or has values that are none of the classes.
        """
        with self._once:
            if self._values is None:
                self._values = self._scan()
            return self._values

    def names(self) -> tuple[str, ...]:
        """The classes: those given, else `class_0` ... up to the highest index in the raster.

        Raises:
            InputError: As `values`, or more classes than anyone names.
        """
        if self.task == "instance":
            return ()
        if self.classes is not None:
            return self.classes
        highest = max(self.values().counts, default=-1)
        return numbered(highest + 1, self.path)

    def _scan(self) -> Values:
        counts: Counter[int] = Counter()
        ids: set[int] = set()
        try:
            for window in self._truth.windows():
                tally = _tally(self._truth.read(window))
                if self.task == "instance":
                    ids |= tally.keys() - {IGNORE, 0}
                    objects = tally.total() - tally[IGNORE] - tally[0]
                    tally = Counter({IGNORE: tally[IGNORE], 0: tally[0], 1: objects})
                counts.update(tally)
        except BlockError as error:
            raise InputError(str(error)) from error
        self._check(counts)
        known = {value: counts[value] for value in sorted(counts) if value != IGNORE and counts[value]}
        return Values(known, counts[IGNORE], len(ids))

    def _check(self, counts: Mapping[int, int]) -> None:
        """Refuse classes outside the list."""
        if self.classes is None:
            return
        beyond = [value for value in sorted(counts) if value >= len(self.classes)]
        if beyond:
            listed = ", ".join(f"{index} {name}" for index, name in enumerate(self.classes))
            also = f" ({len(beyond) - 1} more such classes)" if len(beyond) > 1 else ""
            raise InputError(
                f"{self.path}: {counts[beyond[0]]} pixels have the class {beyond[0]}{also}, which is not in the list "
                f"({listed}); add it to --classes, or give --ignore {beyond[0]}"
            )


def open_labels(
    path: str | Path,
    raster: RasterSpec,
    task: Task,
    classes: tuple[str, ...] | None,
    ignore: int = 255,
    class_field: str = "class",
    outside: str | None = None,
) -> Labels:
    """Look at labels, reading no pixel of them, and see whether they belong to a raster.

    Args:
        path: A raster of one band on the raster's grid, or a file of polygons in any CRS.
        raster: The image.
        task: `semantic`: values are class indexes. `instance`: each value but 0, or each feature, is an instance.
        classes: Names by class index; None takes what the file has. They play no part in an instance task.
        ignore: The value of pixels that say nothing; so do the file's nodata and mask. In an instance task 255 is an
            id like any other, and nodata 0 is the background.
        class_field: The polygons' property that names the class, or is its index.
        outside: The class of pixels that no polygon covers, which otherwise say nothing.

    Raises:
        InputError: The file is missing, cannot be read, or does not fit the raster or the classes.
        UsageError: An option that does not go with such labels.
    """
    name = shown(str(path))
    if not Path(path).is_file():
        raise InputError(f"{name}: there is no such file; give a raster of labels, or polygons")
    semantic = task == "semantic"
    named = classes if semantic else None
    if _is_raster(Path(path)):
        if outside is not None:
            raise UsageError(f"--outside {outside}: {name} is a raster, where every pixel has a value; leave it out")
        return Labels(name, task, named, RasterTruth(path, raster, ignore, instances=not semantic))
    if outside is not None and not semantic:
        raise UsageError(f"--outside {outside}: around instances there is only background; leave it out")
    polygons, found = open_polygons(Path(path), raster, named, class_field if semantic else None, outside)
    return Labels(name, task, found, polygons)


def gather_classes(labels: Sequence[Labels]) -> tuple[str, ...]:
    """The classes of several files that were opened without given ones; open polygons again with these.

    Raises:
        InputError: A file cannot be read.
        UsageError: Some files name their classes and others number them, or there is no class at all.
    """
    lists = [label.names() for label in labels]
    names = max(lists, key=len, default=())
    if any(found != numbered(len(found)) for found in lists):
        names = tuple(sorted({name for found in lists for name in found}))
        for label, found in zip(labels, lists, strict=True):
            if found and found == numbered(len(found)):
                raise UsageError(f"{label.path}: numbers its classes, other labels name them; give --classes")
    if not names:
        raise UsageError(f"{labels[0].path if labels else 'LABELS'}: no pixel has a class; check --ignore and nodata")
    return names


def _is_raster(path: Path) -> bool:
    try:
        return sniff(path) is not None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _tally(values: NDArray[np.int32]) -> Counter[int]:
    """Pixels by value."""
    if values.size and values.max() <= LONGEST_TALLY:
        pixels: NDArray[Any] = np.bincount(values.ravel() - np.int32(IGNORE))
        present = np.flatnonzero(pixels)
        return Counter(dict(zip((present + IGNORE).tolist(), pixels[present].tolist(), strict=True)))
    found, pixels = np.unique(values, return_counts=True)
    return Counter(dict(zip(found.tolist(), pixels.tolist(), strict=True)))
