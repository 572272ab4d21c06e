"""The run folder: what is to be done, what is done, and who is at it.

A block's record is written after its objects are on disk, so a record never promises more than is there. It names the
objects with length and crc32c, and carries the fingerprint of what they depend on: records of another run do not count.
"""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import google_crc32c

from pipeline.errors import OutputError
from pipeline.spec import RunSpec, read_spec
from pipeline.storage import lock
from pipeline.storage.paths import (
    AnyPath,
    each,
    follow,
    pieces,
    read_text,
    relative,
    remove,
    remove_tree,
    sync,
    write_atomically,
    write_first,
)

Step = Literal["infer", "link", "resolve", "render", "downsample"]

STITCHING: tuple[Step, ...] = ("link", "resolve", "render", "downsample")
"""The steps that follow inference."""

LINKS, AREAS, OBJECTS = "links", "areas", "objects.npz"
"""What the steps between inference and mosaic leave in the run folder: see `pipeline.steps.link`."""

STALE_SECONDS = 3600
"""A file that was begun and not touched for so long is nobody's any more."""


@dataclass(frozen=True)
class BlockRecord:
    """What one task did: below 1 kB, also what it returns to the driver.

    Attributes:
        block: The block's name.
        step: Which task.
        fingerprint: Of everything the objects depend on.
        pixels: Pixels that this block answers for.
        tiles: Tiles inferred; 0 for other steps.
        seconds: Where the time went, by part.
        batch_size: In the end.
        objects: Path relative to the run folder, length and crc32c of each.
        segments: Things found in the block's tiles, or objects that they were joined to; 0 for other steps.
        saturated: Tiles whose queries were nearly all taken.
        skipped: Why the block could not be inferred and was left as nodata; empty where it was.
        ended: When it was committed, in seconds since 1970; 0 in records of versions that did not note it.
    """

    block: str
    step: Step
    fingerprint: str
    pixels: int
    tiles: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    batch_size: int = 0
    objects: tuple[tuple[str, int, int], ...] = ()
    segments: int = 0
    saturated: int = 0
    skipped: str = ""
    ended: float = 0.0

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what was written; ValueError, KeyError or TypeError where it is torn or something else."""
        fields = json.loads(text)
        objects = tuple((str(path), int(size), int(crc)) for path, size, crc in fields["objects"])
        return cls(**{**fields, "objects": objects})


class Journal:
    """One run's folder.

    Args:
        folder: `masks.run` beside `masks.zarr`.
    """

    def __init__(self, folder: AnyPath) -> None:
        self.folder = folder

    @classmethod
    def of(cls, output: AnyPath) -> Self:
        """The journal that belongs to a mosaic."""
        return cls(output.with_suffix(".run"))

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.folder / "run.json").exists()

    def spec(self) -> RunSpec:
        """The run that was begun here.

        Raises:
            OutputError: The folder holds something else.
        """
        try:
            return read_spec(self.folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{self.folder}/run.json is not a run of this version ({error}); take another --out or --overwrite"
            ) from error

    def found(self, spec: RunSpec) -> None:
        """Write the run spec where none is yet: of jobs that begin together, one does."""
        if not self.exists:
            write_first(self.folder / "run.json", spec.to_json())

    def begin(self, spec: RunSpec) -> None:
        """Write the run spec, whole or not at all; the same one is left alone."""
        path, text = self.folder / "run.json", spec.to_json()
        if not path.exists() or read_text(path) != text:
            write_atomically(path, text)

    @property
    def is_ours(self) -> bool:
        """Whether the folder is a run's: it holds a run spec, or nothing but what one leaves that never began."""
        return self.exists or (self.folder.is_dir() and all(map(_of_no_run_yet, self.folder.iterdir())))

    @property
    def complete(self) -> bool:
        """Whether all was done, and nothing has been begun since."""
        return (self.folder / "COMPLETE").exists()

    def reopen(self) -> None:
        """Something is about to be done: the run is not complete any more."""
        remove(self.folder / "COMPLETE")

    def clear(self) -> None:
        """Drop all that was done; the run spec goes last, so that what is left of a kill is still known as a run."""
        self.reopen()
        for name in ("records", "store", LINKS, AREAS):
            remove_tree(self.folder / name)
        for name in (OBJECTS, "objects.parquet", "report.json", "report.html", "run.json"):
            remove(self.folder / name)

    def drop_store(self) -> None:
        """Delete the per-tile records."""
        remove_tree(self.folder / "store")

    def records(self, step: Step, fingerprint: str) -> Iterator[BlockRecord]:
        """The done records of a step that count: right fingerprint, and objects of the recorded length are there."""
        written = list(self.written(step, fingerprint))
        stand = each(lambda record: all(map(self._stands, record.objects)), written, self.folder)
        return (record for record, stands in zip(written, stand, strict=True) if stands)

    def find(self, step: Step, block: str, fingerprint: str) -> BlockRecord | None:
        """The done record of one block, if it counts."""
        record = self._read(self._path(step, block), step, fingerprint)
        return record if record and not record.skipped and all(map(self._stands, record.objects)) else None

    def was_skipped(self, step: Step, block: str, fingerprint: str) -> bool:
        """Whether a block was left as nodata, wherever its objects are by now."""
        record = self._read(self._path(step, block), step, fingerprint)
        return record is not None and bool(record.skipped)

    def written(self, step: Step, fingerprint: str) -> Iterator[BlockRecord]:
        """The records of a step with the right fingerprint, whether their objects are still there or not."""
        paths: list[AnyPath] = sorted((self.folder / "records" / step).glob("*.json"), key=str)
        for record in each(lambda path: self._read(path, step, fingerprint), paths, self.folder):
            if record:
                yield record

    def damage(self, record: BlockRecord) -> tuple[str, ...]:
        """The objects of a record that are not there as they were written."""
        return tuple(entry[0] for entry in record.objects if not self._stands(entry) or not self._is_same(entry))

    def forget(self, step: Step, block: str) -> None:
        """Let a block count as not done."""
        remove(self._path(step, block))

    def drop(self, step: Step) -> None:
        """Forget what a step has done."""
        self.reopen()
        remove_tree(self.folder / "records" / step)

    def drop_stitched(self) -> None:
        """Forget all that was made from the tile blocks: one of them is another than it was."""
        for step in STITCHING:
            self.drop(step)

    def commit(self, record: BlockRecord, objects: Iterable[AnyPath]) -> BlockRecord:
        """Make a block's objects durable, with the folders that were made for them; then say so."""
        paths = list(objects)
        self._sync([path for path in paths if isinstance(path, Path)])
        entries = tuple(each(self._entry, paths, self.folder))
        done = replace(record, objects=entries, ended=round(time.time(), 3))
        write_atomically(self._path(record.step, record.block), json.dumps(asdict(done)))
        return done

    def _sync(self, paths: list[Path]) -> None:
        for path in paths:
            sync(path)
        for folder in {parent for path in paths for parent in path.parents} - set(self.folder.parents):
            sync(folder)

    def _entry(self, path: AnyPath) -> tuple[str, int, int]:
        return relative(path, self.folder), path.stat().st_size, checksum(path)

    def _stands(self, entry: tuple[str, int, int]) -> bool:
        try:
            return bool(follow(self.folder, entry[0]).stat().st_size == entry[1])
        except OSError:
            return False

    def _is_same(self, entry: tuple[str, int, int]) -> bool:
        return checksum(follow(self.folder, entry[0])) == entry[2]

    def _path(self, step: Step, block: str) -> AnyPath:
        return self.folder / "records" / step / f"{block}.json"

    def _read(self, path: AnyPath, step: Step, fingerprint: str) -> BlockRecord | None:
        try:
            record = BlockRecord.from_json(read_text(path))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if (record.step, record.block, record.fingerprint) == (step, path.stem, fingerprint) else None

    def lock(self, part: str | None = None) -> AbstractContextManager[None]:
        """Hold the run, or a part of it, for this process; see `lock.held`."""
        return lock.held(self.folder, part)

    def note(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file of figures into the run folder."""
        write_atomically(self.folder / name, json.dumps(content, indent=1))


def _of_no_run_yet(path: AnyPath) -> bool:
    return path.suffix == ".lock" or path.match("run.json.*.partial")


def sweep(folder: AnyPath, age: float = STALE_SECONDS) -> None:
    """Delete what killed tasks were writing below a folder, once nobody has touched it for `age` seconds."""
    for path in list(folder.rglob("*.partial")) if isinstance(folder, Path) else ():
        with suppress(OSError):  # another process may have been faster
            if path.is_file() and time.time() - path.stat().st_mtime >= age:
                path.unlink()


def checksum(path: AnyPath) -> int:
    """crc32c of a file."""
    crc = 0
    for piece in pieces(path):
        crc = google_crc32c.extend(crc, piece)
    return crc
