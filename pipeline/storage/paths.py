"""Where results lie: a folder of this machine, or a bucket of an object store.

Both are paths: a folder's is pathlib's own, a bucket's is `upath.UPath`, which answers to the same names. What the two
do differently has its home here.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeVar

from pipeline.storage import buckets

if TYPE_CHECKING:
    from upath import UPath

    AnyPath: TypeAlias = Path | UPath
else:
    AnyPath = Path  # upath is there only with the extra `s3`

AT_ONCE = 16
"""Requests in flight where many small ones are made."""

T = TypeVar("T")
S = TypeVar("S")


def path_of(text: str | AnyPath) -> AnyPath:
    """The path behind what a user states: that of a folder, or `s3://BUCKET/KEY`.

    Raises:
        UsageError: It is another address, or packages for it are missing.
    """
    if not isinstance(text, str):
        return text
    return buckets.open_address(text) if "://" in text else Path(text)


def follow(folder: AnyPath, way: str) -> AnyPath:
    """What lies at a path relative to a folder; keys of a bucket know no `..`."""
    return folder / way if isinstance(folder, Path) else (folder / way).resolve()


def relative(path: AnyPath, folder: AnyPath) -> str:
    """The way from a folder to a path, both on this machine or both in one bucket."""
    return os.path.relpath(str(path), str(folder))


def zarr_store(path: AnyPath) -> Any:
    """What zarr takes for a path."""
    if isinstance(path, Path):
        return path
    from pipeline.storage.bucket_zarr import bucket_store  # obstore, which is there only with the extra `s3`

    return bucket_store(path)


@contextmanager
def whole(path: AnyPath) -> Iterator[IO[bytes]]:
    """A new file to write to, which takes its name as the context ends well: nobody sees a part of it."""
    if not isinstance(path, Path):
        with tempfile.TemporaryFile(prefix="eomt-batch-") as file:
            yield file
            file.seek(0)
            buckets.put(path, file)
        return
    with _aside(path) as partial:
        with _flushed(partial) as file:
            yield file
        partial.replace(path)
    sync(path.parent)


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A name beside a path's, for what is not whole yet; a file that still bears it in the end is deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process's number, which another machine may have too.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _flushed(path: Path) -> Iterator[IO[bytes]]:
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until a file or folder of this machine is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: AnyPath, text: str) -> None:
    """Write a file that is either whole and on disk or not there."""
    with whole(path) as file:
        file.write(text.encode())


def write_first(path: AnyPath, text: str) -> None:
    """The same, unless the file is there already; of several that try at once, one writes it."""
    if not isinstance(path, Path):
        buckets.put_new(path, text)
        return
    with _aside(path) as partial:
        with _flushed(partial) as file:
            file.write(text.encode())
        try:
            os.link(partial, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links; whoever is last writes the same
            partial.replace(path)
    sync(path.parent)


@contextmanager
def built(path: AnyPath) -> Iterator[Path]:
    """A folder to build in, which takes its name as the context ends well: none is there that was begun and not ended.

    In a bucket its objects are put one by one, those at its top first; where that ended early, it is done again.
    """
    with tempfile.TemporaryDirectory(
        dir=path.parent if isinstance(path, Path) else None, prefix=f".{path.name}."
    ) as scratch:
        folder = Path(scratch, path.name)
        yield folder
        if isinstance(path, Path):
            folder.rename(path)
        else:
            _put_tree(folder, path)


def _put_tree(folder: Path, path: "UPath") -> None:
    def put(file: Path) -> None:
        buckets.put(path.joinpath(*file.relative_to(folder).parts), file.read_bytes())

    files = [file for file in folder.rglob("*") if file.is_file()]
    for file in files:
        if file.parent == folder:
            put(file)
    list(each(put, (file for file in files if file.parent != folder), path))


def read_text(path: AnyPath) -> str:
    """A file's text."""
    # Not as UPath would: where there is no such object, fsspec's file complains once more as it is collected.
    return path.read_text(encoding="utf-8") if isinstance(path, Path) else buckets.read(path).decode()


def pieces(path: AnyPath) -> Iterator[bytes]:
    """A file from end to end."""
    if not isinstance(path, Path):
        yield from buckets.stream(path)
        return
    with path.open("rb") as file:
        while piece := file.read(2**20):
            yield piece


@contextmanager
def at_hand(paths: Iterable[AnyPath]) -> Iterator[list[Path]]:
    """Files as files of this machine, in their order: those of a bucket are copied for the time of the context."""
    some = list(paths)
    here = [path for path in some if isinstance(path, Path)]
    if len(here) == len(some):
        yield here
        return
    with tempfile.TemporaryDirectory(prefix="eomt-batch-") as folder:
        copies = [Path(folder, str(number)) for number in range(len(some))]
        list(each(lambda pair: _copy(*pair), zip(some, copies, strict=True), some[0]))
        yield copies


def _copy(path: AnyPath, copy: Path) -> None:
    with copy.open("wb") as file:
        file.writelines(pieces(path))


def read_part(path: AnyPath, start: int, length: int) -> bytes:
    """Some bytes of a file; a negative start counts from its end."""
    if not isinstance(path, Path):
        return buckets.read_part(path, start, length)
    with path.open("rb") as file:
        file.seek(start, os.SEEK_SET if start >= 0 else os.SEEK_END)
        return file.read(length)


def stamp(path: AnyPath) -> Hashable:
    """What tells that a file is still the same without reading it."""
    if not isinstance(path, Path):
        return buckets.version(path)
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def stamp_of_folder(folder: AnyPath) -> Hashable:
    """What tells that no file was put into a folder since, as a new one or in the place of another."""
    if isinstance(folder, Path):
        return folder.stat().st_mtime_ns
    return hash(tuple((found["path"], found["e_tag"]) for found in buckets.below(folder)))


def remove(path: AnyPath) -> None:
    """Delete a file, where it is there."""
    if isinstance(path, Path):
        path.unlink(missing_ok=True)
    else:
        buckets.remove(path)


def remove_tree(folder: AnyPath) -> None:
    """Delete a folder with all that is in it, as far as it is there and lets itself be deleted."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        buckets.remove_below(folder)


def each(function: Callable[[S], T], items: Iterable[S], path: AnyPath) -> Iterator[T]:
    """A function of some items, in their order; several at a time where each asks a bucket and waits for its answer."""
    if isinstance(path, Path):
        yield from map(function, items)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(function, items)
