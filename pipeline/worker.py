"""The two tasks that a cluster runs, and what a worker process keeps between them.

A task takes a run folder and a block's place, writes its own objects and its done record, and returns the record: no
pixels pass through the scheduler. A block that is done already is not done again, so a task may run twice.
"""

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eomt_core.errors import ModelError
from pipeline.errors import BlockError, EomtBatchError, RetryLater
from pipeline.infer import InferWorker
from pipeline.journal import BlockRecord, Journal
from pipeline.render import RenderWorker
from pipeline.spec import Engine, RunSpec, read_spec

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

_lock = threading.Lock()
_device = threading.Lock()
_infer: dict[tuple[str, str, Engine], InferWorker] = {}
_render: dict[tuple[str, str], RenderWorker] = {}


def infer_block(folder: str, row: int, col: int, engine: Engine) -> BlockRecord:
    """Infer one tile block of the run in `folder`.

    Raises:
        BlockError: What went wrong, naming the block.
        RetryLater: The disk is full.
    """
    # One block at a time holds the device, however many threads a cluster's worker was given.
    with _named(f"tile block {row}-{col} of {folder}"), _device:
        spec, journal = read_spec(Path(folder)), Journal(Path(folder))
        block = spec.plan.block(row, col)
        done = journal.find("infer", block.name, spec.infer_fingerprint)
        if done:
            return done
        worker = _infer_worker(spec, folder, engine)
        return journal.commit(worker.run(block), worker.store.objects(block))


def render_block(folder: str, index: int) -> BlockRecord:
    """Render one output block of the run in `folder`; `index` counts the blocks row by row.

    Raises:
        BlockError: What went wrong, naming the block.
        RetryLater: The disk is full.
    """
    with _named(f"output block {index} of {folder}"):
        spec, journal = read_spec(Path(folder)), Journal(Path(folder))
        block = spec.output_blocks[index]
        done = journal.find("render", block.name, spec.render_fingerprint)
        if done:
            return done
        return journal.commit(*_render_worker(spec, folder).run(block))


@contextmanager
def _named(block: str) -> Iterator[None]:
    """Give whatever goes wrong the block's name, once, in a form that travels between machines."""
    try:
        yield
    except (EomtBatchError, ModelError) as error:
        raise BlockError(f"{block}: {error}") from error
    except Exception as error:
        text = " ".join(str(error).split())
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise RetryLater(f"{block}: the disk is full ({text}); make room and run the same command again") from error
        raise BlockError(f"{block}: {type(error).__name__}: {text}") from error


def forget() -> None:
    """Let go of models and open files, so that a process that goes on does not keep them."""
    with _lock:
        _infer.clear()
        _render.clear()


def _infer_worker(spec: RunSpec, folder: str, engine: Engine) -> InferWorker:
    key = folder, spec.infer_fingerprint, engine
    with _lock:
        if key not in _infer:
            _infer.clear()  # a worker serves one run at a time, and two models may not fit
            _infer[key] = InferWorker.load(spec, Path(folder), engine)
        return _infer[key]


def _render_worker(spec: RunSpec, folder: str) -> RenderWorker:
    key = folder, spec.render_fingerprint
    with _lock:
        if key not in _render:
            _render.clear()
            _render[key] = RenderWorker(spec, Path(folder))
        return _render[key]
