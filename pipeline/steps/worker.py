"""The tasks that a cluster runs, and what a worker process keeps between them.

A task takes a run folder and a block's place, writes its own objects and its done record, and returns the record: no
pixels pass through the scheduler. A block that is done already is not done again, so a task may run twice.
"""

import logging
import os
import threading
import traceback
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any

from distributed import get_worker

from eomt_core.errors import DeviceError, ModelError
from pipeline.addresses import redacted
from pipeline.cluster.pulse import Pulse
from pipeline.errors import DISK_FULL, BlockError, EomtBatchError, RetryLater, RunError, TransientError
from pipeline.spec import Engine, RunSpec, read_spec
from pipeline.steps.infer import InferWorker
from pipeline.steps.journal import BlockRecord, Journal
from pipeline.steps.link import LinkWorker, resolve_run
from pipeline.steps.pyramid import downsample
from pipeline.steps.render import RenderWorker
from pipeline.storage.buckets import explained
from pipeline.storage.paths import follow, path_of, stamp_of_folder
from pipeline.store import Store

log = logging.getLogger(__name__)

_lock = threading.Lock()
_device = threading.Lock()
_infer: dict[tuple[str, str, Engine], InferWorker] = {}
_link: dict[tuple[str, str, Hashable], LinkWorker] = {}
_render: dict[tuple[str, str, Hashable], RenderWorker] = {}


def infer_block(folder: str, row: int, col: int, engine: Engine) -> BlockRecord:
    """Infer one tile block of the run in `folder`.

    Raises:
        BlockError: What went wrong, naming the block.
        RetryLater: The disk is full.
    """
    # One block at a time holds the device, however many threads a cluster's worker was given.
    with _device:
        return _named(f"tile block {row}-{col} of {folder}", lambda: _infer_block(folder, row, col, engine))


def _infer_block(folder: str, row: int, col: int, engine: Engine) -> BlockRecord:
    spec, journal = read_spec(path_of(folder)), Journal(path_of(folder))
    block = spec.plan.block(row, col)
    done = journal.find("infer", block.name, spec.infer_fingerprint)
    if done:
        return done
    worker = _infer_worker(spec, folder, engine)
    record = worker.run(block, Pulse(folder))
    if journal.was_skipped("infer", block.name, spec.infer_fingerprint):
        journal.drop_stitched()  # before the record, not after: a kill in between must not leave the block's nodata
    return journal.commit(record, worker.store.objects(block))


def skip_block(task: tuple[Any, ...], error: BlockError) -> BlockRecord:
    """Leave the tile block of an `infer_block` as nodata, with a record that says why; a rerun tries it again."""
    folder, row, col, *_ = task
    log.warning("skipped: %s", error)
    spec, journal = read_spec(path_of(folder)), Journal(path_of(folder))
    place = follow(path_of(folder), spec.store)
    block, store = spec.plan.block(row, col), Store(place, spec.plan, spec.record_layout)
    store.write_nothing(block)
    pixels = block.owned.height * block.owned.width
    record = BlockRecord(block.name, "infer", spec.infer_fingerprint, pixels, skipped=str(error))
    return journal.commit(record, store.objects(block))


def link_block(folder: str, row: int, col: int) -> BlockRecord:
    """Link the segments of one tile block of the run in `folder`.

    Raises:
        BlockError: What went wrong, naming the block.
        RetryLater: The disk is full.
    """
    return _named(f"tile block {row}-{col} of {folder}", lambda: _link_block(folder, row, col))


def _link_block(folder: str, row: int, col: int) -> BlockRecord:
    spec, journal = read_spec(path_of(folder)), Journal(path_of(folder))
    block = spec.plan.block(row, col)
    done = journal.find("link", block.name, spec.link_fingerprint)
    if done:
        return done
    return journal.commit(*_link_worker(spec, folder).run(block))


def resolve(folder: str, row: int, col: int) -> BlockRecord:
    """Join all segments of the run in `folder` to objects; there is one such task, in row and column 0.

    Raises:
        BlockError: What went wrong.
        RetryLater: The disk is full.
    """
    return _named(f"the objects of {folder}", lambda: _resolve(folder))


def _resolve(folder: str) -> BlockRecord:
    spec, journal = read_spec(path_of(folder)), Journal(path_of(folder))
    return journal.commit(*resolve_run(spec, path_of(folder)))


def render_block(folder: str, row: int, col: int) -> BlockRecord:
    """Render one output block of the run in `folder`.

    Raises:
        BlockError: What went wrong, naming the block.
        RetryLater: The disk is full.
    """
    return _named(f"output block {row}-{col} of {folder}", lambda: _render_block(folder, row, col))


def _render_block(folder: str, row: int, col: int) -> BlockRecord:
    spec, journal = read_spec(path_of(folder)), Journal(path_of(folder))
    block = spec.output_block(row, col)
    done = journal.find("render", block.name, spec.render_fingerprint)
    if done:
        return done
    return journal.commit(*_render_worker(spec, folder).run(block))


def downsample_block(folder: str, level: int, row: int, col: int) -> BlockRecord:
    """Write one block of a coarser level of the run in `folder`, whose finer level is done.

    Raises:
        BlockError: What went wrong, naming the block.
        RetryLater: The disk is full.
    """
    return _named(f"block {level}-{row}-{col} of {folder}", lambda: _downsample_block(folder, level, row, col))


def _downsample_block(folder: str, level: int, row: int, col: int) -> BlockRecord:
    spec, journal = read_spec(path_of(folder)), Journal(path_of(folder))
    done = journal.find("downsample", f"{level}-{row}-{col}", spec.render_fingerprint)
    return done or journal.commit(*downsample(spec, level, row, col))


def _named(block: str, task: Callable[[], BlockRecord]) -> BlockRecord:
    """Do a task; whatever goes wrong with it gets the block's name, once."""
    try:
        return task()
    except Exception as error:
        failure = _failure(block, error)
    # Not as the cause: an error of GDAL's cannot be sent between processes, and would take this one with it.
    raise failure


def _failure(block: str, error: Exception) -> EomtBatchError:
    """The error in our words; its traceback goes along as a note."""
    text = redacted(" ".join(str(error).split()))
    failure: EomtBatchError
    if isinstance(error, DeviceError):
        _leave(error)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        failure = RetryLater(f"{block}: the disk is full ({text}); make room and run the same command again")
    elif told := explained(error):
        failure = RetryLater(f"{block}: {told}")
    else:
        failure = _kind(error)(f"{block}: {text}" if _is_ours(error) else f"{block}: {type(error).__name__}: {text}")
    failure.add_note(redacted("".join(traceback.format_exception(error))))
    return failure


def _kind(error: Exception) -> type[EomtBatchError]:
    """What an error means for the driver: try again, skip or stop, stop."""
    if isinstance(error, RetryLater | TransientError):
        return type(error)
    if isinstance(error, DeviceError):
        return RetryLater
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | PermissionError):
        return TransientError
    # No fault of the block's: the weights have changed, say.
    return RunError if isinstance(error, RunError) and not isinstance(error, BlockError) else BlockError


def _leave(error: DeviceError) -> None:
    """End a process that has lost its device, where Dask starts another one in its place."""
    with suppress(ValueError):  # a task that is called, not given to a worker
        if get_worker().nanny:
            log.error("%s: this process ends, and another one takes its place", error)
            os._exit(1)


def _is_ours(error: Exception) -> bool:
    """Whether its words are meant for users."""
    return isinstance(error, EomtBatchError | ModelError | DeviceError)


def forget() -> None:
    """Let go of models and open files, so that a process that goes on does not keep them."""
    with _lock:
        _infer.clear()
        _link.clear()
        _render.clear()


def _infer_worker(spec: RunSpec, folder: str, engine: Engine) -> InferWorker:
    key = folder, spec.infer_fingerprint, engine
    with _lock:
        if key not in _infer:
            _infer.clear()  # a worker serves one run at a time, and two models may not fit
            _infer[key] = InferWorker.load(spec, path_of(folder), engine)
        return _infer[key]


def _link_worker(spec: RunSpec, folder: str) -> LinkWorker:
    key = folder, spec.link_fingerprint, _inferred(spec, folder)
    with _lock:
        if key not in _link:
            _link.clear()
            _link[key] = LinkWorker(spec, path_of(folder))
        return _link[key]


def _render_worker(spec: RunSpec, folder: str) -> RenderWorker:
    key = folder, spec.render_fingerprint, _inferred(spec, folder)
    linked = _link_worker(spec, folder) if spec.objects else None
    with _lock:
        if key not in _render:
            _render.clear()
            _render[key] = RenderWorker(spec, path_of(folder))
            if linked:
                _render[key].views = linked.views  # fused already
        return _render[key]


def _inferred(spec: RunSpec, folder: str) -> Hashable:
    """When a tile block was inferred last: a run may begin anew, or repair a block, while its workers live on."""
    return stamp_of_folder(follow(path_of(folder), spec.store).parent / "records" / "infer")
