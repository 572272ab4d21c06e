"""RENDER: blend what the store says of an output block, and write its chunks. One task, one block, one writer."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import Clock
from pipeline.codes import CERTAIN, NO_CONFIDENCE, NO_INSTANCE, Codes
from pipeline.errors import RunError
from pipeline.journal import BlockRecord
from pipeline.link import read_objects, views_of
from pipeline.mosaic import Mosaic
from pipeline.object_table import measure, save_extents
from pipeline.spec import RunSpec, read_spec
from pipeline.stitch.blend import blend
from pipeline.stitch.exact import exact
from pipeline.stitch.label import Labels, accept, crop, label
from pipeline.stitch.objects import Objects
from pipeline.stitch.paint import Painted, paint
from pipeline.stitch.views import Views
from pipeline.store import Store
from pipeline.tiling import OutputBlock, Tile


@dataclass
class RenderWorker:
    """What a worker keeps between the output blocks of a run.

    Args:
        spec: The run.
        folder: The run folder.
    """

    spec: RunSpec
    folder: Path
    store: Store = field(init=False)
    mosaic: Mosaic = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.folder / self.spec.store, self.spec.plan, self.spec.record_layout)
        self.mosaic = Mosaic.open(Path(self.spec.output))

    def run(self, block: OutputBlock) -> tuple[BlockRecord, list[Path]]:
        """Render one block; its record, and the files that hold it."""
        clock = Clock()
        with clock("read"):
            valid = self.store.valid(block.window)
        arrays, files = self._arrays(block, valid, clock)
        if read_spec(self.folder).render_fingerprint != self.spec.render_fingerprint:
            raise RunError(f"{self.folder}: begun anew with other options; this task is of the old run")
        with clock("write"):
            self.mosaic.write(block.window, level=0, **arrays)
            files += [path for path in self.mosaic.objects(block.window) if path.exists()]
        pixels = block.window.height * block.window.width
        record = BlockRecord(block.name, "render", self.spec.render_fingerprint, pixels, seconds=clock.rounded())
        return record, files

    def _arrays(
        self, block: OutputBlock, valid: NDArray[np.bool_], clock: Clock
    ) -> tuple[dict[str, NDArray[Any]], list[Path]]:
        """The block's pixels by array, and the files that were written about it."""
        if not self.spec.objects:
            return self._labels(block, valid, clock)._asdict(), []
        with clock("paint"):
            painted = paint(self.views, self.objects, block.window, self.spec.mask_threshold)
            arrays = object_arrays(painted, self.objects.classes, valid, self.spec.codes)
            extents = measure(arrays["instances"], block.window.row, block.window.col)
        return arrays, [save_extents(self.folder, block, extents)]

    @cached_property
    def views(self) -> Views:
        """The tiles, of a run for objects."""
        return views_of(self.spec, self.store)

    @cached_property
    def objects(self) -> Objects:
        """What their segments belong to."""
        return read_objects(self.folder)

    def _labels(self, block: OutputBlock, valid: NDArray[np.bool_], clock: Clock) -> Labels:
        spec, stride = self.spec, self.spec.model.stride
        if spec.kind == "exact":
            with clock("stitch"):
                labels = exact(spec.plan, block.window, spec.model.num_classes, ExactReader(self.store), spec.codes)
                return crop(accept(labels, spec.score_threshold, spec.codes), block.window, 1, valid, spec.codes)
        with clock("blend"):
            blended = blend(spec.plan, block.window, stride, spec.model.num_classes, self._scores)
        with clock("label"):
            labels = accept(label(blended, stride, spec.codes), spec.score_threshold, spec.codes)
            return crop(labels, block.window, stride, valid, spec.codes)

    def _scores(self, tile: Tile) -> NDArray[Any] | None:
        return self.store.read("scores", tile)


def object_arrays(
    painted: Painted, kinds: NDArray[np.int64], valid: NDArray[np.bool_], codes: Codes
) -> dict[str, NDArray[Any]]:
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
