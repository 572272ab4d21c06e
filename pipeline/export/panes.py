"""A mosaic and its input as pictures of one size that lie over each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import InputError, OutputError
from pipeline.export.backdrop import Backdrop
from pipeline.export.colours import distinct, paint_classes, paint_confidence, paint_objects
from pipeline.export.thin import Shape, fit, middles, thin
from pipeline.mosaic.codes import codes
from pipeline.mosaic.mosaic import Mosaic, open_mosaic
from pipeline.rasters.raster import Reader, open_raster
from pipeline.rasters.source import shown
from pipeline.spec import RunSpec
from pipeline.steps.journal import Journal
from pipeline.storage.paths import AnyPath

MOST = 2_000_000_000
"""Pixels that are decoded for an image that nobody asked for: about a minute."""

NUMBERED = 20
"""Classes whose number is written on the map, those with the most pixels."""


class Pane(NamedTuple):
    """One picture: `image`, `truth`, `classes`, `instances` or `confidence`."""

    name: str
    title: str
    picture: Image.Image


class Panes(NamedTuple):
    """All pictures of a mosaic.

    Attributes:
        panes: As large as each other.
        classes: The thinned class ids (h, w).
        notes: What could not be shown.
    """

    panes: list[Pane]
    classes: NDArray[Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Subject:
    """What is shown.

    Attributes:
        mosaic: The mosaic.
        run: The run that made it; None where its folder is not there.
        image: What lies behind it; None where that is not there.
        asked: Whether the image was asked for, so that it must be shown.
        notes: What the reader should know.
    """

    mosaic: Mosaic
    run: RunSpec | None
    image: Backdrop | None
    asked: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: AnyPath, image: str | None = None, **options: Any) -> "Subject":
        """Look at what there is.

        Args:
            path: The mosaic.
            image: The file behind it; default: the run's input, if it is still there.
            options: Of `open_raster`, for the file.

        Raises:
            InputError: There is no mosaic, or the file cannot be shown behind it.
        """
        mosaic = open_mosaic(path)
        run, notes = _run_of(mosaic)
        if image is not None:
            return cls(mosaic, run, Backdrop.of_file(image, mosaic.shape, run, **options), True, notes)
        if run is None:
            return cls(mosaic, run, None, False, (*notes, "no image: give it with --image"))
        try:
            return cls(mosaic, run, Backdrop.of_run(run), False, notes)
        except InputError as error:
            return cls(mosaic, run, None, False, (*notes, f"no image: {error}"))

    @property
    def colours(self) -> tuple[str, ...]:
        """`#rrggbb` by class id, no two the same."""
        return distinct(self.mosaic.colours)

    def panes(self, side: int) -> Panes:
        """All pictures, none of them larger than `side`.

        Raises:
            InputError: The image that was asked for cannot be read.
        """
        mosaic, shape = self.mosaic, fit(self.mosaic.shape, side)
        found, notes = self._image(shape)
        classes = thin(mosaic, "classes", shape)
        found.append(Pane("classes", "Classes", self._painted(classes)))
        if mosaic.instances is not None:
            found.append(Pane("instances", "Objects", paint_objects(thin(mosaic, "instances", shape))))
        found.append(Pane("confidence", "Confidence", paint_confidence(thin(mosaic, "confidence", shape))))
        return Panes(found, classes, notes)

    def _image(self, shape: Shape) -> tuple[list[Pane], tuple[str, ...]]:
        try:
            if self.image is None:
                return [], ()
            if not self.asked and self.image.decoded(shape) > MOST:
                raise InputError(
                    f"{Path(shown(self.image.raster.path)).name}: has no overviews; --image shows it, in minutes"
                )
            return [Pane("image", "Image", self.image.read(shape))], ()
        except InputError as error:
            if self.asked:
                raise
            return [], (f"no image: {error}",)

    def _painted(self, classes: NDArray[Any]) -> Image.Image:
        return paint_classes(classes, self.colours, codes(len(self.mosaic.class_names)))

    def truth(self, path: Path, side: int) -> Pane:
        """A raster of true class ids on the mosaic's grid, in the same colours."""
        rows, cols = map(middles, self.mosaic.shape, fit(self.mosaic.shape, side))
        with Reader(open_raster(path, bands="1", needed=1)) as reader:
            ids = np.asarray(reader.read(reader.spec.grid.window).pixels[0])[np.ix_(rows, cols)]
        return Pane("truth", "Truth", self._painted(ids))


def _run_of(mosaic: Mosaic) -> tuple[RunSpec | None, tuple[str, ...]]:
    """The run that made a mosaic; or why nobody knows."""
    journal = Journal.of(mosaic.path.resolve())
    try:
        run = journal.spec()
    except OutputError:
        return None, (f"no figures of the run: {journal.folder.name}/run.json is not there, or of another version",)
    if run.plan.shape != mosaic.shape:
        return None, (f"no figures of the run: {journal.folder.name} is of another raster",)
    return run, ()


def numbered(classes: NDArray[Any], count: int) -> dict[int, tuple[int, int]]:
    """Row and column at which the number of a class can be written: where it is widest.

    Args:
        classes: (h, w) class ids.
        count: Ids from here on are no classes.
    """
    from scipy import ndimage  # which a run does not need before its end

    step = max(1, max(classes.shape) // 400)
    thinned = classes[step // 2 :: step, step // 2 :: step]
    ids, pixels = np.unique(thinned[thinned < count], return_counts=True)
    places = {}
    for id in ids[np.argsort(-pixels, kind="stable")][:NUMBERED].tolist():
        inside = np.pad(thinned == id, 1)
        row, col = np.unravel_index(ndimage.distance_transform_edt(inside).argmax(), inside.shape)
        places[id] = (int((row - 1) * step + step // 2), int((col - 1) * step + step // 2))
    return places
