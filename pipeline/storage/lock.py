"""Who may work on a run: one process on all of it, or several on a part each.

A file system lets go of its lock however a process ends. In a bucket the lock is an object that its holder puts again
every few seconds; one that stays the same while another run waits is nobody's any more. No clock is asked.
"""

import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pipeline.errors import OutputError
from pipeline.storage import buckets
from pipeline.storage.paths import AnyPath

if TYPE_CHECKING:
    from upath import UPath

WHOLE = "run.lock"
"""The lock of all of a run; that of its part 0/4 is `0-of-4.lock`."""

BEAT_SECONDS = 15.0
"""How often a holder puts its lock again."""

STALE_SECONDS = 60.0
"""How long a lock may stay the same before it is nobody's."""

log = logging.getLogger(__name__)


@contextmanager
def held(folder: AnyPath, part: str | None = None) -> Iterator[None]:
    """Hold a run for this process.

    Args:
        folder: The run's.
        part: Hold this part of it alone: other parts may be held at the same time, but not the whole.

    Raises:
        OutputError: Another process holds it, or the folder cannot be made.
    """
    own = f"{part.replace('/', '-of-')}.lock" if part else WHOLE
    with ExitStack() as stack:
        if isinstance(folder, Path):
            _flock(stack, folder, WHOLE, fcntl.LOCK_SH if part else fcntl.LOCK_EX)
            if part:
                _flock(stack, folder, own, fcntl.LOCK_EX)
        else:
            stack.enter_context(_lease(folder / own))
            # Each puts its own, then looks for others: of two that begin together, one at least sees the other.
            for other in [folder / WHOLE] if part else list(folder.glob("*-of-*.lock")):
                if _watch(other):
                    buckets.remove(other)
        yield


def _flock(stack: ExitStack, folder: Path, name: str, kind: int) -> None:
    file = stack.enter_context(_file(folder, name))
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        raise _in_use(folder) from error


def _file(folder: Path, name: str) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / name).open("a+")  # a network's file system locks for sharing what can be read
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); take another --out") from error


def _in_use(folder: AnyPath) -> OutputError:
    return OutputError(f"{folder} is in use by another run; wait for it or take another --out")


@contextmanager
def _lease(lock: "UPath") -> Iterator[None]:
    """Hold an object of a bucket."""
    name = {"host": socket.gethostname(), "process": os.getpid(), "id": uuid.uuid4().hex}
    kept, ended = [_take(lock, json.dumps({**name, "beat": 0}))], threading.Event()
    thread = threading.Thread(target=_keep, args=(lock, name, kept, ended), name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _let_go(lock, kept[0])


def _let_go(lock: "UPath", kept: str) -> None:
    """Delete a lock that is still our own; one that stays behind is nobody's after a while."""
    try:
        if kept == buckets.version(lock):
            buckets.remove(lock)
    except Exception as error:
        if not buckets.explained(error):
            raise
        log.warning("%s: stays behind (%s)", lock, buckets.explained(error))


def _take(lock: "UPath", text: str) -> str:
    """Put the lock where there is none, or over one that is nobody's; its version."""
    while True:
        new = buckets.put_new(lock, text)
        if new is not None:
            return new
        old = _watch(lock)
        new = buckets.put_over(lock, text, old) if old else None
        if new is not None:
            return new


def _watch(lock: "UPath") -> str | None:
    """Look at a lock until it is known that nobody holds it: its version then, or None where it is gone.

    Raises:
        OutputError: Somebody does.
    """
    first, start = buckets.version(lock), time.monotonic()
    if first is not None:
        log.warning("%s: looking for up to %.0f s whether its holder lives", lock, STALE_SECONDS)
    while first is not None and time.monotonic() - start < STALE_SECONDS:
        time.sleep(min(BEAT_SECONDS, STALE_SECONDS) / 15)
        now = buckets.version(lock)
        if now is None:
            return None
        if now != first:
            raise _in_use(lock.parent)
    return first


def _keep(lock: "UPath", name: dict[str, object], kept: list[str], ended: threading.Event) -> None:
    """Put a lock again and again; a beat that fails is made up for by the next ones."""
    beat = 0
    while not ended.wait(BEAT_SECONDS):
        beat += 1
        try:
            new = buckets.put_over(lock, json.dumps({**name, "beat": beat}), kept[0])
        except Exception as error:
            log.warning("%s: not kept (%s)", lock, buckets.explained(error) or error)
            continue
        if new is None:
            log.warning("%s: another run has taken it; stop one of them", lock)
            return
        kept[0] = new
