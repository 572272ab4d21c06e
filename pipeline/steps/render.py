"""RENDER: blend what the store says of an output block, and write its chunks. One task, one block, one writer."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunError
from pipeline.mosaic.codes import CERTAIN, NO_CONFIDENCE, NO_INSTANCE, Codes
from pipeline.mosaic.mosaic import Mosaic
from pipeline.spec import RunSpec, read_spec
from pipeline.steps.clock import Clock
from pipeline.steps.journal import BlockRecord
from pipeline.steps.link import read_objects, views_of
from pipeline.steps.object_table import measure, save_extents
from pipeline.stitch.blend import blend
from pipeline.stitch.exact import exact
from pipeline.stitch.label import Labels, accept, crop, label
from pipeline.stitch.objects import Objects
from pipeline.stitch.paint import Painted, paint
from pipeline.stitch.sieve import small_parts, surroundings
from pipeline.stitch.views import Views
from pipeline.storage.paths import AnyPath, follow, path_of
from pipeline.store import Store
from pipeline.tiling import OutputBlock, Tile, Window

Arrays = dict[str, NDArray[Any]]
"""Pixels of a window, by array of the mosaic."""


@dataclass
class RenderWorker:
    """What a worker keeps between the output blocks of a run.

    Args:
        spec: The run.
        folder: The run folder.
    """

    spec: RunSpec
    folder: AnyPath
    store: Store = field(init=False)
    mosaic: Mosaic = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(follow(self.folder, self.spec.store), self.spec.plan, self.spec.record_layout)
        self.mosaic = Mosaic.open(path_of(self.spec.output))

    def run(self, block: OutputBlock) -> tuple[BlockRecord, list[AnyPath]]:
        """Render one block; its record, and the files that hold it."""
        clock, spec = Clock(), self.spec
        window = surroundings(block.window, spec.sieve, spec.plan.raster)
        with clock("read"):
            valid = self.store.valid(window)
        ranked = self._objects(window, valid, clock) if spec.objects else self._labels(window, valid, clock)
        inner = block.window.within(window)
        arrays = {name: values[inner] for name, values in self._sieved(ranked, clock).items()}
        if read_spec(self.folder).render_fingerprint != spec.render_fingerprint:
            raise RunError(f"{self.folder}: begun anew with other options; this task is of the old run")
        with clock("write"):
            files = self._write(block, arrays)
        pixels = block.window.height * block.window.width
        return BlockRecord(block.name, "render", spec.render_fingerprint, pixels, seconds=clock.rounded()), files

    def _write(self, block: OutputBlock, arrays: Arrays) -> list[AnyPath]:
        """Write the block's pixels, and where its objects lie; the files."""
        self.mosaic.write(block.window, level=0, **arrays)
        files = [path for path in self.mosaic.objects(block.window) if path.exists()]
        if not self.spec.objects:
            return files
        extents = measure(arrays["instances"], block.window.row, block.window.col)
        return [*files, save_extents(self.folder, block, extents)]

    def _sieved(self, ranked: list[Arrays], clock: Clock) -> Arrays:
        """The best of each pixel, and the second best in small parts."""
        best, *others = ranked
        for second in others:
            with clock("sieve"):
                small = small_parts(segments(best, self.spec.codes), self.spec.sieve)
                best = {name: np.where(small, second[name], values) for name, values in best.items()}
        return best

    @property
    def _places(self) -> int:
        """How many of the best of each pixel must be known."""
        return 2 if self.spec.sieve else 1

    def _objects(self, window: Window, valid: NDArray[np.bool_], clock: Clock) -> list[Arrays]:
        with clock("paint"):
            ranked = paint(self.views, self.objects, window, self.spec.mask_threshold, self._places)
            return [object_arrays(painted, self.objects.classes, valid, self.spec.codes) for painted in ranked]

    @cached_property
    def views(self) -> Views:
        """The tiles, of a run for objects."""
        return views_of(self.spec, self.store)

    @cached_property
    def objects(self) -> Objects:
        """What their segments belong to."""
        return read_objects(self.folder)

    def _labels(self, window: Window, valid: NDArray[np.bool_], clock: Clock) -> list[Arrays]:
        spec = self.spec
        stride = 1 if spec.kind == "exact" else spec.model.stride
        accepted = (accept(labels, spec.score_threshold, spec.codes) for labels in self._ranked(window, clock))
        return [crop(labels, window, stride, valid, spec.codes)._asdict() for labels in accepted]

    def _ranked(self, window: Window, clock: Clock) -> list[Labels]:
        """The classes of a window's pixels, or of those of the cells that it touches, best first."""
        spec, classes = self.spec, self.spec.model.num_classes
        if spec.kind == "exact":
            with clock("stitch"):
                return exact(spec.plan, window, classes, ExactReader(self.store), spec.codes, self._places)
        with clock("blend"):
            blended = blend(spec.plan, window, spec.model.stride, classes, self._scores)
        with clock("label"):
            return label(blended, spec.model.stride, spec.codes, self._places)

    def _scores(self, tile: Tile) -> NDArray[Any] | None:
        return self.store.read("scores", tile)


def object_arrays(painted: Painted, kinds: NDArray[np.int64], valid: NDArray[np.bool_], codes: Codes) -> Arrays:
    """The mosaic's arrays of a window: classes, instances and confidence, in its codes.

    Args:
        painted: the window's pixels.
        kinds: (N,) the class of each object.
        valid: (H, W).
        codes: of the classes.
    """
    numbers = np.where(valid, painted.numbers, 0)
    table = np.concatenate([[codes.unlabelled], kinds])
    classes = np.where(numbers < 0, -1 - numbers, table[numbers.clip(min=0)])
    confidence = np.rint(painted.strengths * CERTAIN).clip(max=CERTAIN)
    return {
        "classes": np.where(valid, classes, codes.nodata).astype(codes.dtype),
        "confidence": np.where(valid, confidence, NO_CONFIDENCE).astype(np.uint8),
        "instances": numbers.clip(min=NO_INSTANCE).astype(np.uint32),
    }


def segments(arrays: Arrays, codes: Codes) -> NDArray[np.int64]:
    """What each pixel of a mosaic's arrays belongs to: things from 1, classes c as -1 - c, 0 where it is nothing."""
    classes = arrays["classes"].astype(np.int64)
    kinds = np.where(classes < codes.unlabelled, -1 - classes, 0)
    ids = arrays.get("instances")
    return kinds if ids is None else np.where(ids != NO_INSTANCE, ids, kinds)


class ExactReader:
    """Full-resolution scores of pixel rows of a tile, from its stored logits; the tiles of a block stay decoded.

    Args:
        store: The records.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._tiles: dict[int, tuple[NDArray[Any], NDArray[Any]] | None] = {}

    def __call__(self, tile: Tile, rows: slice) -> NDArray[np.float32] | None:
        """Scores (rows, W, K), or None for a tile that is all nodata."""
        from eomt_core.predict import stored_scores  # torch, which only this way of stitching needs

        if tile.rank not in self._tiles:
            masks, probs = self.store.masks(tile), self.store.read("class_probs", tile)
            self._tiles[tile.rank] = None if masks is None or probs is None else (masks, probs)
        stored = self._tiles[tile.rank]
        return stored and stored_scores(*stored, (tile.window.height, tile.window.width), rows)
