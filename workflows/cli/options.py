"""Every option, declared once: the same word means the same in each command."""

import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import click

from pipeline.config import DEVICES, RunConfig, parse_bytes, parse_overlap, parse_shard, parse_tile_size
from pipeline.errors import UsageError
from workflows.cli.progress import Console
from workflows.cli.settings import use_config

FC = TypeVar("FC", bound=Callable[..., Any])


class Parsed(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """An option's value, parsed and checked by a function that raises UsageError.

    Args:
        name: For the help.
        parse: From text to the value.
    """

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text; a value that was parsed already stays."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except UsageError as error:
            flag = max(param.opts, key=len) if isinstance(param, click.Option) else ""
            text = str(error)
            raise click.UsageError(text if text.startswith("--") else f"{flag} {text}".strip()) from error


def _auto_or_number(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit():
        raise UsageError(f"{text}: give auto or a whole number")
    return int(text)


def _device(text: str) -> str:
    if not re.fullmatch(DEVICES, text):
        raise UsageError(f"{text}: give auto, cpu, cuda, or some of several GPUs as cuda:1 or cuda:0,1")
    return text


def _path(text: str) -> Any:
    from pipeline.storage.paths import path_of  # which --help need not wait for

    return path_of(text)


def _checked(parse: Callable[[str], Any]) -> Callable[[str], str]:
    """Text that can be parsed; what it makes is known with the tile size or the blocks."""

    def check(text: str) -> str:
        parse(text)
        return text

    return check


def _none_or_number(text: str) -> int:
    if text != "none" and not text.isdigit():
        raise UsageError(f"{text}: give none or a whole number")
    return 0 if text == "none" else int(text)


def _zarr_format(text: str) -> int:
    if text not in ("2", "3"):
        raise UsageError(f"{text}: give 2 or 3")
    return int(text)


AUTO = Parsed("auto|N", _auto_or_number)
BYTES = Parsed("size", parse_bytes)
DEVICE = Parsed("device", _device)
NONE = Parsed("none|N", _none_or_number)
PATH = Parsed("path", _path)
OVERLAP = Parsed("px|ratio|%", _checked(parse_overlap))
SHARD = Parsed("i/n", _checked(parse_shard))
TILE_SIZE = Parsed("px|rows x cols", parse_tile_size)
ZARR_FORMAT = Parsed("2|3", _zarr_format)
FILE = click.Path(dir_okay=False, exists=True)

_DEFAULTS = {field.name: None if field.default is MISSING else field.default for field in fields(RunConfig)}


def _raise_voice(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Hand -v, -q and --log-json to the console."""
    if value:
        setattr(ctx.ensure_object(Console), str(param.name), True)


_VOICE = {"is_flag": True, "expose_value": False, "callback": _raise_voice, "show_default": False}

OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "out": (
        ("--out", "-o"),
        {"type": PATH, "help": "A .zarr for one input, a folder for several (OUT/<stem>.zarr); or s3://BUCKET/..."},
    ),
    "model": (
        ("--model", "-m"),
        {"help": "Embedded (aerial-tiny, nuclei-tiny), a directory, a weight file, or a hub id ORG/NAME[@REV]."},
    ),
    "base": (
        ("--base",),
        {"help": "DINOv3 that weights stored as differences are added to: directory, file or hub id; none: whole."},
    ),
    "task": (("--task",), {"help": "What to segment; default: the first task of the model's card."}),
    "tile_size": (
        ("--tile-size", "--patch-size"),
        {"type": TILE_SIZE, "help": "Pixels, or rows x columns: 640 or 640x896; default: the model's training size."},
    ),
    "overlap": (("--overlap",), {"type": OVERLAP, "help": "Pixels (128), ratio (0.25) or percentage (25%)."}),
    "bands": (("--bands",), {"help": "4,3,2 or names: red,green,blue; default: the card's, else the first ones."}),
    "scale": (("--scale",), {"help": "Raw values that become 0 and 1: auto, LO,HI or one pair per band: LO,HI;LO,HI."}),
    "nodata": (("--nodata",), {"help": "A value, or none; default: the file's."}),
    "aoi": (
        ("--aoi",),
        {"type": FILE, "help": "Polygons (GeoJSON; others with an extra); nothing outside is inferred."},
    ),
    "bbox": (("--bbox",), {"help": "Likewise a rectangle, W,S,E,N in the raster's CRS."}),
    "exact": (("--exact",), {"is_flag": True, "help": "Keep all queries, follow the reference's order of steps."}),
    "tta": (
        ("--tta",),
        {
            "type": click.Choice(["none", "flips", "d4"]),
            "help": "Average (objects: merge) mirrored, and turned, views of each tile.",
        },
    ),
    "precision": (("--precision",), {"type": click.Choice(["auto", "fp32", "bf16", "fp16"]), "help": "Of the model."}),
    "tile_block": (("--tile-block",), {"type": int, "help": "Tiles per side of a tile block, the unit of a task."}),
    "score_threshold": (
        ("--score-threshold",),
        {"type": float, "help": "Semantic: below this confidence (0 to 1) a pixel is unlabelled. Else of queries."},
    ),
    "overlap_threshold": (
        ("--overlap-threshold",),
        {"type": float, "help": "Share of its mask that a query must win in its tile; default: the card's."},
    ),
    "mask_threshold": (
        ("--mask-threshold",),
        {"type": float, "help": "Probability from which a pixel is in a mask; default: the card's."},
    ),
    "merge_threshold": (
        ("--merge-threshold",),
        {"type": float, "help": "Likeness from which the segments of two tiles are one object."},
    ),
    "min_area": (("--min-area",), {"type": int, "help": "Objects of fewer pixels are dropped."}),
    "sieve": (
        ("--sieve",),
        {
            "type": int,
            "help": "Parts of a class or object below N pixels (up to 256 a side) take each pixel's second best; "
            "GDAL's sieve gives them to their largest neighbour instead.",
        },
    ),
    "zarr_format": (
        ("--zarr-format",),
        {"type": ZARR_FORMAT, "help": "Of the mosaic; every GDAL reads 2."},
    ),
    "chunk": (("--chunk",), {"type": int, "help": "Pixels a side of the mosaic's chunks."}),
    "zarr_shard": (
        ("--zarr-shard",),
        {
            "type": NONE,
            "show_default": "none",
            "help": "Pixels a side of its shards, files of many chunks: format 3, which GDAL reads from 3.13.",
        },
    ),
    "levels": (
        ("--levels",),
        {
            "type": int,
            "show_default": "until below 1024 px",
            "help": "Its resolutions, each half of the one before; 1: the full one alone.",
        },
    ),
    "device": (("--device",), {"type": DEVICE, "help": "auto, cpu, cuda or cuda:1."}),
    "batch_size": (
        ("--batch-size",),
        {"type": AUTO, "show_default": "auto", "help": "Tiles per forward; a full device halves it and goes on."},
    ),
    "readers": (("--readers",), {"type": int, "help": "Reader threads per worker."}),
    "shard": (
        ("--shard",),
        {"type": SHARD, "help": "Infer the i-th of n parts only, from 0, as jobs of an array do; then stitch."},
    ),
    "workers": (
        ("--workers",),
        {
            "type": AUTO,
            "default": None,
            "show_default": "auto",
            "help": "Worker processes on this machine; 0: all in this one; auto: one per GPU where there are several.",
        },
    ),
    "scheduler": (("--scheduler",), {"help": "Address of a running Dask scheduler."}),
    "scheduler_file": (("--scheduler-file",), {"type": FILE, "help": "File with that address."}),
    "max_memory": (
        ("--max-memory",),
        {"type": BYTES, "help": "Refuse a run that needs more, as 8GB; default: 80 % of what there is."},
    ),
    "overwrite": (("--overwrite", "-f"), {"is_flag": True, "help": "Start afresh where a run is already."}),
    "on_error": (
        ("--on-error",),
        {"type": click.Choice(["fail", "skip"]), "help": "Leave a tile block that fails as nodata, and end with 3."},
    ),
    "keep_store": (("--keep-store/--drop-store",), {"help": "Keep or drop the per-tile records when finished."}),
    "subdataset": (("--subdataset",), {"type": int, "help": "The image of a file with several, from 1."}),
    "allow_vrt": (("--allow-vrt",), {"is_flag": True, "help": "Accept inputs that name files below their folder."}),
    "allow_remote": (
        ("--allow-remote",),
        {"is_flag": True, "help": "Accept inputs on other hosts: https:// and s3:// addresses."},
    ),
    "max_block_bytes": (
        ("--max-block-bytes",),
        {"type": BYTES, "show_default": "256MiB", "help": "Refuse rasters with larger decoded blocks."},
    ),
    "input_list": (
        ("--input-list",),
        {"type": click.File(), "help": "File with more inputs, one a line; - is stdin."},
    ),
    "config": (
        ("--config",),
        {
            "type": FILE,
            "is_eager": True,
            "expose_value": False,
            "callback": use_config,
            "help": "TOML file with the options' names; options given here win.",
        },
    ),
    "print_config": (("--print-config",), {"is_flag": True, "help": "Print all options as TOML, start nothing."}),
    "as_json": (("--json",), {"is_flag": True, "help": "Results as JSON, one object a line."}),
    "verbose": (("-v", "--verbose"), {**_VOICE, "help": "Show where in the code an error comes from."}),
    "quiet": (("-q", "--quiet"), {**_VOICE, "help": "Say errors only."}),
    "log_json": (("--log-json",), {**_VOICE, "help": "Say it as JSON, one object a line."}),
}

OF_RUN = tuple(OPTIONS)
OF_WORK = ("verbose", "quiet", "log_json")
OF_STITCH = (
    *("score_threshold", "overlap_threshold", "mask_threshold", "merge_threshold", "min_area", "sieve"),
    *("zarr_format", "chunk", "zarr_shard", "levels"),
)
OF_CLUSTER = ("workers", "scheduler", "scheduler_file")


def shared(*names: str, **changes: Any) -> Callable[[FC], FC]:
    """Give a command options by their names in `OPTIONS`, in this order.

    Args:
        names: Which.
        changes: What is different for this command, as `default=None`.
    """

    def decorate(command: FC) -> FC:
        for name in reversed(names):
            flags, attributes = OPTIONS[name]
            default = {"default": _DEFAULTS[name]} if _DEFAULTS.get(name) is not None else {}
            command = click.option(*flags, name, **{**default, **attributes, **changes})(command)
        return command

    return decorate


def config_of(options: dict[str, Any]) -> RunConfig:
    """The run's configuration; options that are about the command alone are left aside.

    Raises:
        UsageError: Options that do not go together.
    """
    chosen = {name: value for name, value in options.items() if name in _DEFAULTS}
    if chosen.get("workers", 0) is None:
        from pipeline.devices import choose_workers

        elsewhere = options.get("scheduler") or options.get("scheduler_file")
        chosen["workers"] = 0 if elsewhere else choose_workers(options.get("device", "cpu"))
    return RunConfig(**chosen)
