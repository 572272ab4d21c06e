"""A mosaic in the formats of other programs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pipeline.errors import DISK_FULL, OutputError, UsageError
from pipeline.mosaic.mosaic import Mosaic, open_mosaic
from pipeline.report import OnProgress
from pipeline.steps.journal import Journal
from pipeline.storage.paths import AnyPath

To = Literal["cog", "gpkg", "fgb", "parquet", "stac"]
Exported = Literal["classes", "instances", "confidence"]

SUFFIXES = {"cog": ".tif", "gpkg": ".gpkg", "fgb": ".fgb", "parquet": ".parquet", "stac": ".json"}
"""By which other programs know the formats."""

TRACED = ("gpkg", "fgb", "parquet")
"""Formats of polygons."""

PACKAGES = {**dict.fromkeys(TRACED, ("pyogrio", "shapely")), "stac": ("pystac", "shapely")}
"""What formats need that is not there without an extra."""


def export_mosaic(
    path: AnyPath | str,
    to: To,
    output: Path | str,
    *,
    array: Exported | None = None,
    simplify: float = 0,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> int | None:
    """Write a mosaic, or what is known of it, in another format.

    Args:
        path: The mosaic; its run is complete.
        to: The format: a Cloud Optimized GeoTIFF, GeoPackage, FlatGeobuf, GeoParquet or a STAC item.
        output: The file.
        array: What to write; default: the classes, but as polygons the instances where there are some.
        simplify: Metres that the outlines of polygons may move, for fewer points.
        overwrite: Whether a file that is there is replaced.
        progress: Hears of every block.

    Returns:
        How many polygons were written, or None.

    Raises:
        InputError: There is no mosaic, or it cannot be told in this format.
        OutputError: The file is there, or has another suffix, or its folder cannot be written.
        UsageError: The options do not go together, or a package is missing.
        RunError: The file could not be written.
    """
    mosaic, target = open_mosaic(path), Path(output)
    chosen = _chosen(mosaic, to, array, simplify)
    _check_packages(to)
    _check_complete(mosaic)
    _check_target(target, to, overwrite)
    with _fresh(target) as file:
        return _write(file, mosaic, to, chosen, target, simplify, progress or (lambda _: None))


def _write(
    file: Path, mosaic: Mosaic, to: To, array: Exported, target: Path, simplify: float, progress: OnProgress
) -> int | None:
    if to == "stac":
        from pipeline.export.stac import write_stac

        write_stac(file, mosaic, target)
        return None
    if to == "cog":
        from pipeline.export.cog import write_cog

        write_cog(file, mosaic, array, progress)
        return None
    from pipeline.export.vectors import write_vectors

    return write_vectors(file, to, mosaic, "instances" if array == "instances" else "classes", simplify, progress)


def _chosen(mosaic: Mosaic, to: To, array: Exported | None, simplify: float) -> Exported:
    """The array to write."""
    traced = to in TRACED
    if simplify and not traced:
        raise UsageError(f"--simplify: is for polygons, and --to {to} has none; leave it out")
    if array is not None and to == "stac":
        raise UsageError(f"--array {array}: a STAC item names all arrays; leave it out")
    if array == "confidence" and traced:
        raise UsageError("--array confidence: has no outlines; take --to cog, or --array classes")
    if array == "instances" and mosaic.instances is None:
        raise UsageError(f"--array instances: {mosaic.path} has none; its run was semantic")
    return array or ("instances" if traced and mosaic.instances is not None else "classes")


def _check_packages(to: To) -> None:
    extra = "stac" if to == "stac" else "vectors"
    missing = [name for name in PACKAGES.get(to, ()) if find_spec(name) is None]
    if missing:
        raise UsageError(f"--to {to} needs {' and '.join(missing)}; pip install 'eomt-batch[{extra}]'")


def _check_complete(mosaic: Mosaic) -> None:
    journal = Journal.of(mosaic.path.resolve())
    if journal.exists and not journal.complete:
        raise UsageError(f"{mosaic.path}: the run is not complete; the same run command continues")


def _check_target(target: Path, to: To, overwrite: bool) -> None:
    if target.suffix != SUFFIXES[to]:
        raise OutputError(f"--out {target}: with --to {to} a file ends in {SUFFIXES[to]}; give another name")
    if target.is_dir() or (target.exists() and not overwrite):
        raise OutputError(f"--out {target}: is already there; take another name, or --overwrite")


@contextmanager
def _fresh(target: Path) -> Iterator[Path]:
    """A file to write, which appears by its name, with what lies beside it, only when it is whole."""
    try:
        scratch = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise OutputError(f"--out {target}: cannot be written ({error.strerror}); take another folder") from error
    with scratch as folder:
        yield Path(folder, target.name)
        # The companions first: a file that is there has all of its own.
        for made in sorted(Path(folder).iterdir(), key=lambda made: made.name == target.name):
            made.replace(target.with_name(made.name))
