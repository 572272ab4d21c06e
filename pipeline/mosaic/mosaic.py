"""The result: a Zarr group per resolution, every one complete in itself for GIS readers.

    masks.zarr/          the levels, provenance
      0/                 full resolution
        classes  confidence  instances
        y  x  spatial_ref    where the pixels lie
      1/ ...             half, quarter ...

All metadata stands before the first pixel. Pixels come as whole chunks (or shards), each written by one writer, in any
order; nothing is locked, and chunks that hold fill alone are not stored.
"""

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import zarr
from numpy.typing import NDArray

from pipeline.errors import InputError, OutputError
from pipeline.mosaic.chunks import Layout, ZarrFormat
from pipeline.mosaic.codes import codes, layers
from pipeline.mosaic.georeference import Affine, Attributes, Georeference
from pipeline.mosaic.layout import MARKER, build
from pipeline.storage.paths import AnyPath, built, path_of, read_text, remove_tree, zarr_store
from pipeline.tiling import Window

if TYPE_CHECKING:
    from pipeline.rasters.raster_spec import Grid

Array = zarr.Array[Any]


@dataclass(frozen=True)
class Mosaic:
    """A mosaic that stands on disk. Cheap to open; open it where it is used rather than sending it about."""

    path: AnyPath
    root: zarr.Group

    @classmethod
    def create(
        cls,
        path: AnyPath,
        grid: "Grid",
        crs: str | None,
        *,
        classes: Sequence[str],
        colours: Sequence[str],
        instances: bool = False,
        zarr_format: ZarrFormat = 2,
        chunk: int = 1024,
        shard: int | None = None,
        levels: int = 1,
        provenance: Mapping[str, Any],
    ) -> "Mosaic":
        """Write the mosaic complete but for its pixels, which all read as nodata.

        Args:
            path: Where; nothing may be there.
            grid: Rows and columns, and the transform or None.
            crs: WKT2, or None.
            classes: Names, by class id.
            colours: `#rrggbb`, by class id.
            instances: Whether there is an array of instance ids.
            zarr_format: 2 is read by every GDAL, 3 from GDAL 3.11.
            chunk: Pixels per side of a chunk.
            shard: Pixels per side of a shard (format 3, GDAL from 3.13), or None.
            levels: Resolutions, each half of the one before; 1: the full one alone.
            provenance: What made it; plain JSON.

        Raises:
            OutputError: The path is taken, or cannot be written.
            UsageError: A shard size that does not fit.
        """
        if isinstance(path, Path) and path.exists():
            raise OutputError(f"{path}: is already there; take another name, or --overwrite")
        layout = Layout(zarr_format, chunk, shard).checked()
        found = layers(classes, colours, instances)
        places = Georeference(grid.shape, grid.transform, crs).pyramid(levels)
        try:
            # It appears by its name only when it is whole: a run that was killed before leaves no half of one.
            with built(path) as folder:
                build(folder, places, found, layout, provenance)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror or error}); take another folder") from error
        return cls.open(path)

    @classmethod
    def open(cls, path: AnyPath, mode: Literal["r", "r+"] = "r+") -> "Mosaic":
        """Open a mosaic to write its pixels (or, with `r`, only to read them).

        Raises:
            InputError: There is none, or it is not ours, or it is damaged.
        """
        if not is_ours(path):
            what = "was not written by eomt-batch" if path.exists() else "is not there"
            raise InputError(f"{path}: {what}; give the .zarr that `eomt-batch run --out` wrote")
        try:
            # Consolidated metadata may be of an earlier state; the arrays' own are the truth.
            root = zarr.open_group(zarr_store(path), mode=mode, use_consolidated=False)
            root["0/classes"], root["0/confidence"]
        except (KeyError, OSError, ValueError) as error:
            raise InputError(f"{path}: its metadata are damaged ({error}); start again with --overwrite") from error
        return cls(path, root)

    def array(self, name: str, level: int = 0) -> Array:
        """One array of one level, (H, W).

        Raises:
            KeyError: There is no such array or level.
        """
        at = f"{level}/{name}"
        if at not in self._arrays:
            self._arrays[at] = cast(Array, self.root[at])
        return self._arrays[at]

    @cached_property
    def _arrays(self) -> dict[str, Array]:
        """Those that were asked for: to open one takes several requests where the mosaic is in a bucket."""
        return {}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The arrays of pixels in each level."""
        return ("classes", "confidence", "instances") if "0/instances" in self.root else ("classes", "confidence")

    @property
    def classes(self) -> Array:
        """Class ids (H, W), full resolution."""
        return self.array("classes")

    @property
    def confidence(self) -> Array:
        """254 times the probability (H, W) uint8, 255 nodata."""
        return self.array("confidence")

    @property
    def instances(self) -> Array | None:
        """Instance ids (H, W) uint32, or None in a mosaic without."""
        return self.array("instances") if "instances" in self.names else None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the full resolution."""
        rows, cols = self.classes.shape
        return rows, cols

    @property
    def side(self) -> int:
        """Pixels per side of the smallest square that one writer may write: a shard, or else a chunk."""
        return (self.classes.shards or self.classes.chunks)[0]

    @property
    def levels(self) -> int:
        """How many resolutions there are."""
        return len(cast(Any, self.root.attrs["multiscales"])["layout"])

    @property
    def transform(self) -> Affine | None:
        """(a, b, c, d, e, f) of the full resolution at pixel corners, or None."""
        return self.place().transform

    @property
    def crs(self) -> str | None:
        """WKT2, or None."""
        return self.place().crs

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names, by class id."""
        return tuple(cast(Sequence[str], self.classes.attrs["class_names"]))

    @property
    def colours(self) -> tuple[str, ...]:
        """`#rrggbb`, by class id."""
        return tuple(str(self.classes.attrs["flag_colors"]).split())

    @property
    def nodata(self) -> int:
        """The class id that means nodata."""
        return codes(len(self.class_names)).nodata

    @property
    def provenance(self) -> dict[str, Any]:
        """What made it."""
        return dict(cast(Any, self.root.attrs[MARKER]))

    def place(self, level: int = 0) -> Georeference:
        """Where the pixels of one level lie."""
        attributes = cast(Attributes, self.root[str(level)].attrs)
        rows, cols = self.array("classes", level).shape
        transform = attributes.get("spatial:transform")
        affine = None if transform is None else cast(Affine, tuple(transform))
        return Georeference((rows, cols), affine, attributes.get("proj:wkt2"))

    def write(self, window: Window, *, level: int = 0, **arrays: NDArray[Any]) -> None:
        """Write one block, as the only writer of its chunks.

        Args:
            window: Whole chunks (shards); at the raster's edge they may be cut off.
            level: The resolution that the window counts in.
            arrays: By name, (window.height, window.width) in the array's own type.

        Raises:
            ValueError: The window is not aligned (neighbours' pixels would be lost), or an array does not fit; nothing
                was written.
        """
        _check_aligned(window, self.array("classes", level).shape, self.side)
        targets = {name: self.array(name, level) for name in arrays}
        for name, values in arrays.items():
            expected = (window.height, window.width), targets[name].dtype
            if (values.shape, values.dtype) != expected:
                raise ValueError(f"{name}: expected {expected} for {window}, got {(values.shape, values.dtype)}")
        for name, values in arrays.items():
            targets[name][window.slices] = values

    def objects(self, window: Window, level: int = 0) -> list[AnyPath]:
        """The files that hold the window's pixels, array by array. Those of fill alone do not exist."""
        ranges = [
            range(start // self.side, -(-stop // self.side))
            for start, stop in ((window.row, window.bottom), (window.col, window.right))
        ]
        arrays = [self.array(name, level) for name in self.names]
        return [
            self.path / array.path / array.metadata.encode_chunk_key(index)
            for array, index in product(arrays, product(*ranges))
        ]

    def finish(self) -> None:
        """Copy all metadata into one file per level and one for all, that readers far away need not ask for each."""
        with warnings.catch_warnings():
            # zarr says that the specification of format 3 does not have this yet; readers without it read each array.
            warnings.filterwarnings("ignore", "Consolidated metadata is currently not part", UserWarning)
            store, zarr_format = zarr_store(self.path), self.root.metadata.zarr_format
            for level in range(self.levels):
                zarr.consolidate_metadata(store, path=str(level), zarr_format=zarr_format)
            zarr.consolidate_metadata(store, zarr_format=zarr_format)


def open_mosaic(path: AnyPath | str) -> Mosaic:
    """Open a mosaic to read it.

    Raises:
        InputError: There is none, or it is not ours, or it is damaged.
    """
    return Mosaic.open(path_of(path), mode="r")


def is_ours(path: AnyPath) -> bool:
    """Whether the directory carries our marker."""
    if _json(path / ".zattrs").get(MARKER) is not None:
        return True
    attributes = _json(path / "zarr.json").get("attributes")
    return isinstance(attributes, dict) and MARKER in attributes


def remove(path: AnyPath) -> None:
    """Delete a mosaic, if one is there.

    Raises:
        OutputError: Something else is there.
    """
    if not path.exists() and not path.is_symlink():
        return
    if path.is_symlink() or not is_ours(path):
        raise OutputError(f"{path}: was not written by eomt-batch and is not deleted; take another name")
    # The marker goes last: what is left when this is interrupted can be deleted by the same call.
    if isinstance(path, Path):
        for child in path.iterdir():
            if child.is_dir():
                shutil.rmtree(child)
    remove_tree(path)


def _json(path: AnyPath) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _check_aligned(window: Window, shape: tuple[int, ...], side: int) -> None:
    for start, stop, size in ((window.row, window.bottom, shape[0]), (window.col, window.right, shape[1])):
        if not 0 <= start < stop <= size or start % side or (stop % side and stop != size):
            raise ValueError(f"{window} are not whole blocks of {side} pixels in a mosaic of {shape}")
