"""Where a run may write, and whether it may go on from what stands there."""

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.config import RunConfig
from pipeline.errors import ChangedError, OutputError, RetryLater, UsageError
from pipeline.mosaic.companions import companions, remove_companions
from pipeline.mosaic.mosaic import is_ours
from pipeline.mosaic.mosaic import remove as remove_mosaic
from pipeline.preprocess import Scaling
from pipeline.spec import RunSpec
from pipeline.steps.journal import Journal
from pipeline.steps.pyramid import choose_levels
from pipeline.steps.tasks import Tasks
from pipeline.storage.buckets import check_reach
from pipeline.storage.paths import AnyPath, follow, relative

NAMES = {
    "stamps": "input file",
    "query": "hash of the input's query",
    "model": "model sha256",
    "file": "raster size and place",
    "grid": "raster grid",
}
"""Facts that go by another name than the option's."""

SHOWN = 20
"""Missing blocks that a message names."""


def check_place(output: AnyPath, overwrite: bool) -> None:
    """Refuse an output that is not ours to write.

    Raises:
        OutputError: The path has another suffix, or holds something that no run of ours made.
    """
    journal = Journal.of(output)
    if output.suffix != ".zarr":
        raise OutputError(f"--out {output}: a mosaic's path ends in .zarr; give {output.with_suffix('.zarr').name}")
    if not isinstance(output, Path):
        check_reach(output)
    if output.exists() and not is_ours(output):
        raise OutputError(f"--out {output}: something else is there that this tool did not make; take another path")
    if journal.folder.exists() and not journal.is_ours:
        raise OutputError(f"{journal.folder}: something else is there that this tool did not make; take another --out")
    if output.exists() and not journal.exists and not overwrite:
        raise OutputError(f"--out {output}: a mosaic without its run folder {journal.folder.name}; give --overwrite")
    taken = [path for path in companions(output) if path.exists()]
    if taken and not journal.exists and not overwrite:
        raise OutputError(f"{taken[0]}: is there and would be written; take another --out, or give --overwrite")
    if isinstance(output, Path):
        _check_folder(output)


def _check_folder(output: Path) -> None:
    if any(part.endswith(":") for part in output.parts):  # what pathlib makes of an address
        raise OutputError(f"--out {output}: is no path of a folder; give an address as text, as s3://BUCKET/KEY")
    parent = next(folder for folder in output.parents if folder.exists())
    if not parent.is_dir():
        raise OutputError(f"--out {output}: {parent} is a file, no folder; take another path")
    if not os.access(parent, os.W_OK):
        raise OutputError(f"--out {output}: {parent} cannot be written; take another path")


def continued(journal: Journal, spec: RunSpec, config: RunConfig) -> RunSpec:
    """The spec with which a run goes on: today's, with the store that the run began.

    Where the workers are elsewhere, `--precision auto` is theirs to decide, and stays open in the spec; a run that goes
    on here or there takes what the one before it had.

    Raises:
        ChangedError: It differs from the run that is there in something that decides the result.
    """
    if not journal.exists:
        return spec
    before = journal.spec()
    if config.precision == "auto" and "auto" in (before.precision, spec.precision):
        spec = replace(spec, precision=before.precision)
    for name, old, now in before.changes(spec, "infer"):
        blocks = sum(1 for _ in journal.records("infer", before.infer_fingerprint))
        raise ChangedError(
            f"{journal.folder}: begun with {words(name, old)}, now {words(name, now)}; take another --out, or give "
            f"--overwrite to drop the {blocks} inferred tile blocks and start afresh"
        )
    changes = [change for stage in ("stitch", "layout") for change in before.changes(spec, stage)]
    if changes:
        name, old, now = changes[0]
        options = " ".join(f"--{name.replace('_', '-')} {now}" for name, _, now in changes)
        raise ChangedError(
            f"{journal.folder}: made with {words(name, old)}, now {words(name, now)}; to change it without "
            f"inferring again: eomt-batch stitch {spec.output} {options}"
        )
    return replace(spec, store=before.store)


def words(name: str, value: Any) -> str:
    """A fact of a run spec as a user would state it."""
    match name, value:
        case (("tile_size" | "overlap"), [rows, cols]):
            text = f"{rows}x{cols}"
        case "scale", dict():
            text = str(Scaling.from_json(value))
        case "stamps", list():
            text = ", ".join(f"{file} of {size} bytes, changed {_time(mtime)}" for file, size, mtime in value)
        case _, list():
            text = ",".join(map(str, value))
        case _:
            text = str(value)
    return f"{NAMES.get(name, name.replace('_', '-'))} {text}"


def _time(nanoseconds: int) -> str:
    """A file's time, to the microsecond: less would show two times as one."""
    return datetime.fromtimestamp(nanoseconds / 1e9).isoformat(" ", "microseconds")


def restitched(old: Journal, place: AnyPath, changes: Mapping[str, Any]) -> RunSpec:
    """The spec of a run stitched again, in place or at a new one, from the records that it has.

    Raises:
        UsageError: A change is none that stitching can make, or the new place is taken.
    """
    before, journal = old.spec(), Journal.of(place)
    allowed = [*before.facts("stitch"), *before.facts("layout")]
    wrong = [name for name in changes if name not in allowed]
    if wrong:
        raise UsageError(f"{wrong[0]}: cannot be changed without inferring again; stitch takes {', '.join(allowed)}")
    RunConfig(model=before.model.location, **{**before.facts("layout"), **changes})  # which checks the values
    choose_levels(changes.get("levels"), before.raster.grid.shape)
    check_place(place, overwrite=False)
    if place.drive != old.folder.drive:  # a bucket is one
        raise OutputError(f"--out {place}: the records are elsewhere; take a path beside {old.folder}")
    store = relative(follow(old.folder, before.store), journal.folder)
    if journal.exists and journal.spec().store != store:
        raise OutputError(f"--out {place}: a run with records of its own is there; take another path")
    # Not the place that it was made at: the folders may have been moved since, or be a copy.
    return replace(before, output=str(place), store=store, **changes)


def existing(output: AnyPath) -> Journal:
    """The journal of a run that was begun.

    Raises:
        OutputError: There is none.
    """
    journal = Journal.of(output.resolve())
    if not journal.exists:
        raise OutputError(
            f"{output}: no run was begun here ({journal.folder.name}/run.json is missing); check the path"
        )
    return journal


def clear_mosaic(output: AnyPath) -> None:
    """Drop a mosaic with the files beside it, which would name what is not there."""
    remove_mosaic(output)
    remove_companions(output)


def clear(output: AnyPath) -> None:
    """Drop a run and its mosaic."""
    clear_mosaic(output)
    Journal.of(output).clear()


def require_records(journal: Journal) -> None:
    """See that all that inference leaves is there, to be stitched again.

    Raises:
        OutputError: The store is gone.
        RetryLater: Tile blocks are missing.
    """
    tasks = Tasks(journal.spec(), journal)
    if journal.complete and not tasks.store.exists():
        raise OutputError(f"{journal.folder}: the per-tile records are not there; run again with --keep-store")
    skipped = tasks.skipped
    missing = [name for name in tasks.left("infer") if name not in skipped]
    if missing:
        some = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        raise RetryLater(f"{journal.folder}: {len(missing)} tile blocks are missing ({some}); finish them with run")
