"""INFER: read a tile block, run the model over its tiles, write their records. One task, one block.

Reader threads -> a bounded look-ahead of super-windows -> batches -> model -> store. A batch never crosses a block.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from eomt_core.describe import describe_model
from eomt_core.errors import ModelError
from pipeline.errors import RunError
from pipeline.preprocess import TileBatch, cut_tile, prepare
from pipeline.rasters.raster import Reader
from pipeline.spec import Engine, RunSpec, read_spec
from pipeline.steps.clock import Clock
from pipeline.steps.journal import BlockRecord
from pipeline.storage.paths import AnyPath, follow
from pipeline.store import Store, query_record
from pipeline.tiling import SuperWindow, Tile, TileBlock, Window

if TYPE_CHECKING:
    from eomt_core.predict import Predictor


NOTHING = np.empty((0, 0, 0), np.uint8)
"""The pixels of a super-window that lies outside the area of interest: no tile is cut from it."""


class Loaded(NamedTuple):
    """A super-window in memory.

    Attributes:
        read: Which.
        window: What was read for it: grown to whole blocks of the file.
        pixels: (C, h, w), ready to be cut into tiles.
        valid: (h, w).
    """

    read: SuperWindow
    window: Window
    pixels: NDArray[Any]
    valid: NDArray[np.bool_]

    def valid_in(self, window: Window) -> NDArray[np.bool_]:
        """The validity of that part of a window which was read."""
        return self.valid[window.intersect(self.window).within(self.window)]


@dataclass
class InferWorker:
    """What a worker keeps between the blocks of a run: the model on its device, and the plan.

    Args:
        spec: The run.
        folder: The run folder.
        engine: Device, batch size, threads.
        predictor: The model at work.
    """

    spec: RunSpec
    folder: AnyPath
    engine: Engine
    predictor: "Predictor"
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(follow(self.folder, self.spec.store), self.spec.plan, self.spec.record_layout)

    @classmethod
    def load(cls, spec: RunSpec, folder: AnyPath, engine: Engine) -> Self:
        """Put the run's model on this worker's device.

        Raises:
            RunError: The weights are not those that the run was begun with.
        """
        from eomt_core.predict import load_predictor  # torch, which only a worker that infers needs

        base, model = spec.model.base, spec.model
        try:
            if describe_model(model.location, base).sha256() != model.sha256:
                raise RunError(
                    f"{model.location}: the weights have changed since the run began; start with --overwrite"
                )
            predictor = load_predictor(
                model.location,
                base,
                device=engine.device,
                precision=spec.precision,
                scaling=(spec.scaling.lo, spec.scaling.hi),
                batch_size=engine.batch_size,
                threads=engine.threads,
                tta=spec.tta,
            )
        except ModelError as error:
            raise RunError(f"{model.location}: {error}") from error
        return cls(spec, folder, engine, predictor)

    def run(self, block: TileBlock, pulse: Callable[[], None]) -> BlockRecord:
        """Infer one block and write its records.

        Args:
            block: Which.
            pulse: Called before each batch.

        Raises:
            BlockError: A window of the raster could not be read.
        """
        clock = Clock()
        valid = np.zeros((block.owned.height, block.owned.width), bool)
        tiles = 0
        with self.store.writer(block) as write:
            for batch in self._batches(self._loads(block, clock), block, valid):
                pulse()
                tiles += len(batch.tiles)
                self._infer(batch, write, clock)
            self._check_current()
        with clock("write"):
            self.store.write_valid(block, valid)
        pixels, size = block.owned.height * block.owned.width, self.predictor.batch_size
        return BlockRecord(block.name, "infer", self.spec.infer_fingerprint, pixels, tiles, clock.rounded(), size)

    def _check_current(self) -> None:
        """Stop a task that outlived its run: it must not put its records among those of the next one."""
        if read_spec(self.folder).infer_fingerprint != self.spec.infer_fingerprint:
            raise RunError(f"{self.folder}: begun anew with other options; this task is of the old run")

    def _infer(self, batch: TileBatch, write: Callable[[Tile, dict[str, NDArray[Any]]], None], clock: Clock) -> None:
        with clock("model"):
            records = self._records(batch.pixels)
        with clock("write"):
            for tile, record in zip(batch.tiles, records, strict=True):
                write(tile, record)

    def _records(self, pixels: NDArray[Any]) -> list[dict[str, NDArray[Any]]]:
        if self.spec.kind == "scores":
            return [{"scores": codes} for codes in self.predictor.scores(pixels)]
        return [query_record(*kept) for kept in self.predictor.queries(pixels, exact=self.spec.kind == "exact")]

    def _loads(self, block: TileBlock, clock: Clock) -> Iterator[Loaded]:
        """The block's super-windows in order, read ahead by as many as there are readers."""
        with (
            Reader(self.spec.raster.at(self.engine.address)) as reader,
            ThreadPoolExecutor(self.engine.readers, "reader") as pool,
        ):
            pending: deque[Future[Loaded]] = deque()
            for read in block.reads:
                pending.append(pool.submit(self._load, reader, read, clock))
                if len(pending) > self.engine.readers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _load(self, reader: Reader, read: SuperWindow, clock: Clock) -> Loaded:
        with clock("read"):
            window, aoi = self.spec.raster.snap(read.window), self.spec.aoi
            if aoi and not aoi.within(window):
                return Loaded(read, window, NOTHING, np.zeros(window[2:], bool))
            pixels, valid = reader.read(window)
            ready = prepare(pixels, valid, self.spec.scaling)
            # The model still sees what lies around the area: an answer at its border is that of the whole raster.
            return Loaded(read, window, ready, valid & aoi.mask(window) if aoi else valid)

    def _batches(self, loads: Iterator[Loaded], block: TileBlock, valid: NDArray[np.bool_]) -> Iterator[TileBatch]:
        """Tiles that hold any data, in full batches however the super-windows divide them; notes validity in passing.

        Tiles are cut only when their batch is full: what waits is the super-window they share.
        """
        waiting: list[tuple[Tile, Loaded]] = []
        for loaded in loads:
            common = loaded.read.window.intersect(block.owned)
            valid[common.within(block.owned)] = loaded.valid_in(common)
            waiting += [(tile, loaded) for tile in loaded.read.tiles if loaded.valid_in(tile.window).any()]
            size = self.predictor.batch_size
            while len(waiting) >= size:
                yield _stack(waiting[:size])
                del waiting[:size]
        if waiting:
            yield _stack(waiting)


def _stack(items: list[tuple[Tile, Loaded]]) -> TileBatch:
    return TileBatch(
        tuple(tile for tile, _ in items),
        np.stack([cut_tile(loaded.pixels, loaded.window, tile.window) for tile, loaded in items]),
    )
