"""Inputs made to harm, on the real command line: one clear line each, no request, no file read, little memory."""

import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio
from web import Web, serving

from eomt_core.palette import save_palette

MOST_RSS = 300 * 10**6
"""Bytes. A command with GDAL, and no torch, takes half of it; each bomb here decodes to more."""

PLACE = {"crs": "EPSG:32640", "transform": (1, 0, 3e5, 0, -1, 2e6)}
CANARY = b"CANARY-of-a-file-on-this-machine"


PROGRAM = """
import atexit, pathlib, sys
note = pathlib.Path(sys.argv.pop(1))
# Not getrusage: that peak begins with what the process that started this one had.
atexit.register(lambda: note.write_text(pathlib.Path("/proc/self/status").read_text()))
from workflows.cli import main
main()
"""


class Trap(NamedTuple):
    """Where a hostile input is made.

    Attributes:
        folder: For it.
        web: A server that must not be asked.
        secret: A file that must not be read.
        make: `make_raster`.
    """

    folder: Path
    web: Web
    secret: Path
    make: Callable[..., Path]


def vrt(trap: Trap, name: str, source: str, band: str = "") -> Path:
    """A VRT of one band."""
    path = trap.folder / name
    content = f"<SourceFilename>{source}</SourceFilename>"
    inner = content if band else f"<SimpleSource>{content}<SourceBand>1</SourceBand></SimpleSource>"
    head = '<VRTDataset rasterXSize="32" rasterYSize="1">'
    path.write_text(f'{head}<VRTRasterBand dataType="Byte" band="1" {band}>{inner}</VRTRasterBand></VRTDataset>')
    return path


def raw_vrt(trap: Trap) -> list[object]:
    """The bytes of a file as pixels."""
    return [vrt(trap, "raw.vrt", str(trap.secret), 'subClass="VRTRawRasterBand"'), "--allow-vrt"]


def vrt_in_disguise(trap: Trap) -> list[object]:
    """A VRT with an address, called .tif."""
    return [vrt(trap, "photo.tif", f"/vsicurl/{trap.web.address}/a.tif")]


def vrt_with_leave(trap: Trap) -> list[object]:
    """Leave for VRTs and for other hosts is no leave for a VRT's other hosts."""
    return [*vrt_in_disguise(trap), "--allow-vrt", "--allow-remote"]


def address_without_leave(trap: Trap) -> list[object]:
    """A signed address, from a list or a form."""
    return [f"http://user:{CANARY.decode()}@127.0.0.1:{trap.web.port}/a.tif?X-Amz-Signature={CANARY.decode()}"]


def credentials_of_the_machine(trap: Trap) -> list[object]:
    """Where a cloud hands them out."""
    return ["http://169.254.169.254/latest/meta-data/iam", "--allow-remote"]


def bomb(trap: Trap) -> list[object]:
    """One tile of 30 000 x 30 000, in less than a megabyte."""
    layout = {"tiled": True, "blockxsize": 30000 // 16 * 16, "blockysize": 30000 // 16 * 16, "compress": "deflate"}
    return [trap.make("bomb.tif", np.zeros((1, 64, 64), np.uint8), **PLACE, **layout), "--bands", "1,1,1"]


def overviews_of_another(trap: Trap) -> list[object]:
    """A raster whose metadata name another one as its overviews."""
    path = trap.make("plain.tif", (3, 64, 64), **PLACE)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=f"/vsicurl/{trap.web.address}/a.tif")
    return [path]


def mask_of_another(trap: Trap) -> list[object]:
    """A VRT beside a raster, as its mask."""
    path = trap.make("masked.tif", (3, 64, 64), **PLACE)
    vrt(trap, "mask.vrt", str(trap.secret), 'subClass="VRTRawRasterBand"').rename(path.with_name("masked.tif.msk"))
    return [path]


class Evil:
    """Leaves a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def pickle_as_weights(trap: Trap) -> list[object]:
    """A model that would run a command."""
    weights = trap.folder / "pytorch_model.bin"
    with zipfile.ZipFile(weights, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": Evil(trap.folder / "pwned")}))
    return [trap.make("good.tif", (3, 64, 64), **PLACE), "-m", weights]


def bare_pickle(trap: Trap) -> list[object]:
    """The same without torch's archive."""
    weights = trap.folder / "weights.bin"
    weights.write_bytes(pickle.dumps(Evil(trap.folder / "pwned")))
    return [trap.make("good.tif", (3, 64, 64), **PLACE), "-m", weights]


def newline_in_a_path(trap: Trap) -> list[object]:
    """A name that would forge a line of a log."""
    return [f"{trap.folder}/a\neomt-batch: all is well\n.tif"]


HOSTILE = {
    raw_vrt: "subClass='VRTRawRasterBand'",
    vrt_in_disguise: "is a VRT, which names other files",
    vrt_with_leave: "may not name other hosts",
    address_without_leave: "is on another host",
    credentials_of_the_machine: "this machine's cloud",
    bomb: "one of its blocks decodes to",
    overviews_of_another: "names another file as its overviews",
    mask_of_another: "would be read as mask",
    pickle_as_weights: "which is no tensor",
    bare_pickle: "no readable torch checkpoint",
    newline_in_a_path: "cannot be read",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three greys."""
    return save_palette(tmp_path_factory.mktemp("model") / "palette", [[0.0] * 3, [0.5] * 3, [1.0] * 3], tile=64)


@pytest.fixture
def trap(tmp_path: Path, make_raster: Callable[..., Path]) -> Iterator[Trap]:
    """A server and a file that nobody may touch."""
    (tmp_path / "secret").write_bytes(CANARY)
    with serving(tmp_path, tmp_path.with_name(f"{tmp_path.name}.asked")) as web:
        yield Trap(tmp_path, web, tmp_path / "secret", make_raster)


def measured(words: list[object], note: Path) -> tuple[Any, int]:
    """A command in a process of its own, which notes its peak memory: what is done, and the bytes."""
    command = [sys.executable, "-c", PROGRAM, str(note), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    (peak,) = [line.split()[1] for line in note.read_text().splitlines() if line.startswith("VmHWM")]
    return done, int(peak) * 1024


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_a_hostile_input_ends_in_one_line(make: Callable[[Trap], list[object]], trap: Trap, model: Path) -> None:
    """Exit code 2, nothing written, nobody asked, no byte of another file told, and little memory taken."""
    words = make(trap)
    given = [] if "-m" in words else ["-m", model]
    before = sorted(trap.folder.rglob("*"))
    command = ["run", *words, *given, "-o", trap.folder / "o.zarr"]
    done, peak = measured(command, trap.web.log.with_suffix(".peak"))
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert peak < MOST_RSS
    assert line.startswith("eomt-batch: error: ")
    assert HOSTILE[make] in line
    assert CANARY.decode() not in line
    assert sorted(trap.folder.rglob("*")) == before
    assert not trap.web.asked
