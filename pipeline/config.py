"""The choices of a run, as a user states them, checked when they are made."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.errors import UsageError
from pipeline.mosaic.chunks import Layout, ZarrFormat

Device = str
Precision = Literal["auto", "fp32", "bf16", "fp16"]
OnError = Literal["fail", "skip"]

DEVICES = r"auto|cpu|cuda(:\d+(,\d+)*)?"
"""What a device may be called; several are for as many worker processes."""

LOWEST = {"tile_block": 1, "chunk": 16, "zarr_shard": 0, "readers": 1, "workers": 0, "min_area": 0, "sieve": 0}
"""What numbers must be at least."""


def parse_tile_size(text: str) -> tuple[int, int]:
    """Rows and columns from `640` or `640x896`.

    Raises:
        UsageError: Anything else.
    """
    match = re.fullmatch(r"(\d+)(?:[x,](\d+))?", text.strip())
    if not match:
        raise UsageError(f"--tile-size {text}: give pixels, as 640, or rows x columns, as 640x896")
    rows = int(match[1])
    return rows, int(match[2] or rows)


def parse_shard(text: str) -> tuple[int, int]:
    """Which part of how many from `0/4`.

    Raises:
        UsageError: Anything else.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match or int(match[1]) >= int(match[2]):
        raise UsageError(f"--shard {text}: give the part, from 0, and how many there are: 0/4, 1/4, 2/4, 3/4")
    return int(match[1]), int(match[2])


def parse_overlap(text: str) -> tuple[str | None, str | None, str | None]:
    """`128` as pixels, `0.25` as a ratio or `25%` as a percentage: one of the three, the others None.

    Raises:
        UsageError: None of these forms.
    """
    match = re.fullmatch(r"(\d+)|(\d*\.\d+)|(\d+(?:\.\d+)?)%", text.strip())
    if not match:
        raise UsageError(f"--overlap {text}: give pixels (128), a ratio (0.25) or a percentage (25%)")
    pixels, ratio, percent = match.groups()
    return pixels, ratio, percent


def overlap_pixels(text: str, tile: int) -> int:
    """Pixels of an overlap, not yet rounded to the lattice.

    Raises:
        UsageError: None of its forms, or not less than the tile.
    """
    pixels, ratio, percent = parse_overlap(text)
    value = int(pixels) if pixels else round(tile * (float(ratio) if ratio else float(percent or 0) / 100))
    if value >= tile:
        raise UsageError(f"--overlap {text}: {value} pixels must be less than the tile size ({tile})")
    return value


def parse_bytes(text: str) -> int:
    """Bytes from `8GB`, `512MiB` or a plain number.

    Raises:
        UsageError: Anything else.
    """
    units = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?", text.strip().upper())
    if not match:
        raise UsageError(f"{text}: give a size such as 8GB, 512MiB or 1000000000")
    return int(float(match[1]) * units[match[2] or ""])


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a run is to do. Values left at None are decided by the model's card, the raster or the computer.

    Attributes:
        model: An embedded model, a directory, a weight file or a hub id.
        base: The weights that a model of differences is relative to; `none`: its weights are whole.
        task: `semantic`, `instance` or `panoptic`; None: the first the card lists.
        tile_size: Rows and columns of a tile; None: the model's training size.
        overlap: Pixels, ratio or percentage, as text.
        bands: 1-based comma list or names; None: the card's, else the first ones.
        scale: `auto`, or raw values that become 0 and 1: `LO,HI`, or one pair per band separated by `;`.
        nodata: A value, or `none`; None: the file's.
        aoi: A file of polygons; only inside them is anything inferred.
        bbox: Likewise, a rectangle `W,S,E,N` in the raster's CRS.
        exact: Keep all queries and follow the reference's order at full resolution.
        tta: Views of each tile to average, or of which to merge the queries: `flips`, or all eight of a square, `d4`.
        precision: Of the forward.
        tile_block: Tiles per side of a tile block.
        score_threshold: Semantic: a pixel whose confidence is below it is unlabelled (None: 0). Else the score from
            which a query counts (None: the card's).
        overlap_threshold: Share of its mask that a query must win in its tile; None: the card's.
        mask_threshold: Probability from which a pixel is in a mask; None: the card's.
        merge_threshold: Likeness from which the segments of two tiles are one object.
        min_area: Objects of fewer pixels are dropped.
        sieve: Parts of a class or an object of fewer pixels take the second best of each pixel; 0: none does.
        zarr_format: Of the mosaic.
        chunk: Pixels a side of its chunks.
        zarr_shard: Pixels a side of its shards, format 3 only; 0: none.
        levels: Its resolutions, each half of the one before; None: until the coarsest is below 1024 pixels.
        device: `auto`, `cpu`, `cuda`, `cuda:1`; several for as many workers, `cuda:0,1`.
        batch_size: Tiles per forward; None: by the device.
        readers: Reader threads per worker.
        shard: `i/n`: infer the i-th of n parts of the tile blocks, from 0, and no more.
        workers: Worker processes on this machine; 0: in this process.
        scheduler: Address of a running Dask scheduler.
        scheduler_file: File with that address.
        max_memory: Bytes that the whole run may take on this machine; None: 80 % of what there is.
        overwrite: Start afresh where a run is already.
        on_error: When a tile block cannot be read or inferred: `fail`, or `skip` it and leave nodata there.
        keep_store: Keep the per-tile records when finished.
        subdataset: The image of a TIFF with several, from 1.
        allow_vrt: Accept inputs that name other files.
        allow_remote: Accept inputs on other hosts: `https://` and `s3://` addresses.
        max_block_bytes: Refuse rasters with larger decoded blocks.
    """

    model: str = "aerial-tiny"
    base: str | None = None
    task: str | None = None
    tile_size: tuple[int, int] | None = None
    overlap: str = "0.25"
    bands: str | None = None
    scale: str = "auto"
    nodata: str | None = None
    aoi: str | None = None
    bbox: str | None = None
    exact: bool = False
    tta: Literal["none", "flips", "d4"] = "none"
    precision: Precision = "auto"
    tile_block: int = 8
    score_threshold: float | None = None
    overlap_threshold: float | None = None
    mask_threshold: float | None = None
    merge_threshold: float = 0.3
    min_area: int = 0
    sieve: int = 0
    zarr_format: ZarrFormat = 2
    chunk: int = 1024
    zarr_shard: int = 0
    levels: int | None = None
    device: Device = "auto"
    batch_size: int | None = None
    readers: int = 2
    shard: str | None = None
    workers: int = 0
    scheduler: str | None = None
    scheduler_file: str | None = None
    max_memory: int | None = None
    overwrite: bool = False
    on_error: OnError = "fail"
    keep_store: bool = True
    subdataset: int | None = None
    allow_vrt: bool = False
    allow_remote: bool = False
    max_block_bytes: int = 256 * 2**20

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_words()
        self._check_cluster()

    def _check_numbers(self) -> None:
        for name, lowest in LOWEST.items():
            _at_least(name, getattr(self, name), lowest)
        for name in ("batch_size", "subdataset", "max_memory", "levels"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        for side in self.tile_size or ():
            _at_least("tile_size", side, 1)
        for name in ("score_threshold", "overlap_threshold", "mask_threshold", "merge_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"--{name.replace('_', '-')} {value}: give a value from 0 to 1")

    def _check_words(self) -> None:
        if not re.fullmatch(DEVICES, self.device):
            raise UsageError(f"--device {self.device}: give auto, cpu, cuda, cuda:N, or several as cuda:0,1")
        if self.precision not in get_args(Precision):
            raise UsageError(f"--precision {self.precision}: give one of {', '.join(get_args(Precision))}")
        if self.on_error not in get_args(OnError):
            raise UsageError(f"--on-error {self.on_error}: give fail or skip")
        if self.zarr_format not in (2, 3):
            raise UsageError(f"--zarr-format {self.zarr_format}: give 2 or 3")
        if self.shard is not None:
            parse_shard(self.shard)
        Layout(self.zarr_format, self.chunk, self.zarr_shard or None).checked()

    def _check_cluster(self) -> None:
        if self.exact and self.tta != "none":
            raise UsageError("--exact keeps the queries of one view of a tile; it does not go with --tta")
        if self.aoi and self.bbox:
            raise UsageError("--aoi and --bbox both name an area; give one of them")
        if self.scheduler and self.scheduler_file:
            raise UsageError("--scheduler and --scheduler-file both name a scheduler; give one of them")
        if self.shard and self.overwrite:
            raise UsageError("--overwrite would drop what other --shard jobs have done; give it to none of them")
        if self.shard and not self.keep_store:
            raise UsageError("--shard jobs leave records for eomt-batch stitch; they do not go with --drop-store")
        if self.workers and (self.scheduler or self.scheduler_file):
            raise UsageError("--workers starts workers on this machine; it does not go with --scheduler")


def _at_least(name: str, value: int, lowest: int) -> None:
    if value < lowest:
        raise UsageError(f"--{name.replace('_', '-')} {value}: give at least {lowest}")
