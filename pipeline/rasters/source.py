"""Which files GDAL may open, with which driver, and under which options.

GDAL goes by content, not by name: a text file called x.tif may be a VRT that reads /etc/hostname as pixels or makes
requests. So the content is looked at here, and GDAL is told the one driver to take.
"""

import os
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

from pipeline.addresses import REMOTE, check_host, public, redacted
from pipeline.errors import InputError
from pipeline.rasters.tiff import check_complete, largest_block, pages
from pipeline.rasters.vrt import vetted
from pipeline.storage.buckets import endpoint

CACHE_BYTES = 128 * 2**20
"""GDAL's cache of decoded blocks, one per process; GDAL's own choice is a twentieth of the machine per process."""

# An environment variable, not an option of Env: that one is the process's and falls back to GDAL's choice as soon as
# the first of several threads leaves its Env.
os.environ.setdefault("GDAL_CACHEMAX", str(CACHE_BYTES >> 20))

GDAL_OPTIONS = {
    "GDAL_NUM_THREADS": "1",  # the readers are the threads; more of them save no time where the workers fill the cores
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",  # look for world file, mask and .aux.xml by name: folders may be endless
    "GDAL_VRT_ENABLE_PYTHON": "NO",  # a user's environment may have it on
    "GTIFF_IGNORE_READ_ERRORS": "NO",  # a damaged block is an error, never zeros
}
NO_REQUESTS = {
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",  # whatever a file or its sidecars name, no request is made
}
REMOTE_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # each sidecar looked for would be a request
    "GDAL_HTTP_TIMEOUT": "60",  # the default is to wait for ever
    "GDAL_HTTP_CONNECTTIMEOUT": "20",  # a host that is not there
    "GDAL_HTTP_MAX_RETRY": "3",  # object stores say 503 now and then
    "GDAL_HTTP_RETRY_DELAY": "1",  # seconds, doubled each time; the default is to wait for minutes
}

HEAD_BYTES = 4096
MAGIC = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"EHFA_HEADER_TAG": "HFA",
}
GDAL_ERRORS = (RasterioError, CRSError, CPLE_BaseError)
"""What rasterio raises; GDAL's own errors get through it in places, and have no public name."""

_OPENING = threading.Lock()


@dataclass(frozen=True)
class Source:
    """A raster that may be opened, and how.

    Args:
        path: An absolute path, or a URL.
        page: The directory of a TIFF with several images, 0 for the first.
    """

    path: str
    driver: str
    remote: bool = False
    page: int = 0


def shown(path: str) -> str:
    """The path for a message: one short line without a URL's user, password and query, which may be secrets."""
    return public(path.strip().splitlines()[0])[:200] if path.strip() else repr(path)


def find_source(path: str | Path, *, allow_vrt: bool = False, allow_remote: bool = False) -> Source:
    """The raster behind a path, once it is known to be one that is read.

    Raises:
        InputError: Missing, empty, no raster, a VRT or a remote file without leave.
    """
    name = os.fspath(path)
    if "://" in name or name.startswith("/vsi"):
        return _remote(name, allow_remote)
    driver = sniff(_file(name))
    if driver is None:
        raise InputError(
            f"{shown(name)}: is no raster that is read (TIFF, PNG, JPEG, JPEG 2000, WebP, BMP, GIF, HFA, VRT); "
            f"convert it: gdal_translate {shown(name)} out.tif -co TILED=YES"
        )
    if driver == "VRT" and not allow_vrt:
        raise InputError(f"{shown(name)}: is a VRT, which names other files; allow it with --allow-vrt")
    return Source(str(Path(name).absolute()), driver)


def sniff(path: Path) -> str | None:
    """The GDAL driver that the content calls for."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if b"<vrtdataset" in head.lower():  # before all others, as in GDAL
        return "VRT"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return next((driver for magic, driver in MAGIC.items() if head.startswith(magic)), None)


def _file(name: str) -> Path:
    path = Path(name)
    try:
        if path.is_dir():
            raise InputError(f"{shown(name)}: is a folder; name the rasters in it")
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "no file's name"
        raise InputError(f"{shown(name)}: cannot be read ({why}); check the path and its permissions") from error
    if size == 0:
        raise InputError(f"{shown(name)}: is empty (0 bytes); copy it again")
    return path


def _remote(name: str, allowed: bool) -> Source:
    if not REMOTE.match(name):
        raise InputError(f"{shown(name)}: only files and http, https, s3, gs and az addresses are read; unpack it")
    if not allowed:
        raise InputError(
            f"{shown(name)}: is on another host; download it, or let run, plan or preview read it with --allow-remote"
        )
    check_host(name)
    driver = "JP2OpenJPEG" if name.partition("?")[0].lower().endswith((".jp2", ".j2k")) else "GTiff"
    return Source(name, driver, remote=True)


def check_files(source: Source, max_block_bytes: int) -> tuple[Path, ...]:
    """The files that the pixels come from, the named one first, once all of them are seen to be whole.

    Raises:
        InputError: One is cut short, is a VRT itself, or has blocks too large to decode.
    """
    if source.remote:
        return ()
    path = Path(source.path)
    beside = tuple(_beside(path, max_block_bytes))
    if source.driver == "GTiff":
        check_complete(path, source.page)
        check_block(str(path), largest_block(path, source.page), max_block_bytes)
        return path, *beside
    if source.driver == "PNG":
        _check_png(path)
    if source.driver != "VRT":
        return path, *beside
    _, files = vetted(path)
    for file in files:
        driver = sniff(_file(str(file)))
        if driver in (None, "VRT"):
            raise InputError(f"{path}: source {file} is {driver or 'no raster'}; name plain rasters")
        if driver == "PNG":
            _check_png(file)
        if driver == "GTiff":
            check_complete(file)
            check_block(str(file), largest_block(file), max_block_bytes)
        files += tuple(_beside(file, max_block_bytes))
    return (path, *files)


def _beside(path: Path, max_block_bytes: int) -> Iterator[Path]:
    """Mask and overviews beside a raster, which GDAL opens with any driver; yields what decides what is nodata."""
    for suffix in (".msk", ".ovr", ".MSK", ".OVR"):
        file = path.with_name(f"{path.name}{suffix}")
        if not file.exists():
            continue
        if sniff(_file(str(file))) != "GTiff":
            raise InputError(f"{shown(str(file))}: would be read as mask or overviews and is no TIFF; take it away")
        for page in range(len(pages(file))):
            check_block(str(file), check_complete(file, page).block_bytes, max_block_bytes)
        if suffix.lower() == ".msk":
            yield file


def _check_png(path: Path) -> None:
    """Refuse a PNG without an end: GDAL makes noise of it without a word."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - HEAD_BYTES))
        if b"IEND" not in file.read():
            raise InputError(f"{path}: cut short, a PNG without an end; copy it again")


def check_block(name: str, size: int, most: int) -> None:
    """Refuse a block that is small on disk and would fill the memory.

    Raises:
        InputError: The block is larger than `--max-block-bytes`.
    """
    if size > most:
        raise InputError(
            f"{shown(name)}: one of its blocks decodes to {size} bytes, --max-block-bytes is {most}; "
            "raise it, or copy the raster with gdal_translate -co TILED=YES"
        )


def gdal_env(remote: bool) -> Any:
    """The options under which a raster is opened and read; they are a thread's own, so each access enters them."""
    return rasterio.Env(**(GDAL_OPTIONS | (REMOTE_OPTIONS | _s3_options() if remote else NO_REQUESTS)))


def _s3_options() -> dict[str, str]:
    """Where S3 is, in GDAL's words, if the environment says in those of Amazon's programs that it is elsewhere."""
    scheme, _, host = endpoint().partition("://")
    if not host:
        return {}
    return {
        "AWS_S3_ENDPOINT": host.rstrip("/"),
        "AWS_HTTPS": "NO" if scheme == "http" else "YES",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }


def _name(source: Source) -> str | Path:
    """The source as GDAL's drivers know it."""
    if not source.remote:
        return Path(source.path)
    scheme, _, rest = source.path.partition("://")
    if source.path.startswith("/vsi"):
        return source.path
    return f"/vsicurl/{source.path}" if scheme in ("http", "https") else f"/vsi{scheme}/{rest}"


def open_source(source: Source) -> tuple[Any, bool]:
    """An open rasterio dataset, and whether the file says where on Earth it lies.

    Raises:
        RasterioError: GDAL cannot open it.
        InputError: Its own metadata name another file.
    """
    name = _name(source)
    if source.driver == "VRT":
        name, _ = vetted(Path(source.path))
    elif source.page:
        name = f"GTIFF_DIR:{source.page + 1}:{name}"
    # Filters of warnings are the process's: one thread at a time, and only this one warning is kept back.
    with _OPENING, gdal_env(source.remote), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", NotGeoreferencedWarning)
        dataset = rasterio.open(name, driver=source.driver)
    kept = [warning for warning in seen if not issubclass(warning.category, NotGeoreferencedWarning)]
    for warning in kept:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if "OVERVIEW_FILE" in dataset.tags(ns="OVERVIEWS"):  # any raster of the machine, shown as if it were this one
        dataset.close()
        raise InputError(f"{shown(source.path)}: names another file as its overviews; copy it with gdal_translate")
    return dataset, len(kept) == len(seen)


def cause(error: BaseException) -> str:
    """What GDAL said first, on one line; rasterio keeps it as the cause of a cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(getattr(error, "errmsg", "") or error)
    return redacted(" ".join(text.split()))[:300]


__all__ = [
    "CACHE_BYTES",
    "GDAL_ERRORS",
    "GDAL_OPTIONS",
    "Source",
    "cause",
    "check_block",
    "check_files",
    "find_source",
    "gdal_env",
    "open_source",
    "shown",
]
