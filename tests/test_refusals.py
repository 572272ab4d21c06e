"""Commands that cannot be started: one line that says what, where and what to do, exit 2, and nothing written."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from eomt_core.card import Architecture, ModelCard
from eomt_core.describe import card_text
from eomt_core.formats import to_reference
from eomt_core.location import OWN_CARD, WEIGHTS
from eomt_core.palette import save_palette
from eomt_core.shapes import expected_shapes
from workflows.cli.main import cli

GREYS = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [1.0, 1.0, 1.0]]
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
SIZES: dict[str, Any] = {"embed_dim": 64, "depth": 2, "num_heads": 1, "patch_size": 16, "mlp_hidden": 256}
COUNTS: dict[str, Any] = {"num_queries": 5, "num_classes": 3, "num_blocks": 1, "num_upscale": 2, "num_registers": 4}
FLAGS = {"cls_token": True, "no_embed_class": True, "swiglu": False, "layer_scale": True}
TINY = Architecture(image_size=(64, 64), in_channels=3, **SIZES, **COUNTS, **FLAGS)
TENSORS = ("q.weight", "class_head.bias", "encoder.backbone.reg_token", "encoder.backbone.blocks.1.attn.qkv.bias")

Refused = Callable[..., str]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three greys in tiles of 64 pixels."""
    return save_palette(tmp_path_factory.mktemp("model") / "palette", GREYS, tile=64)


@pytest.fixture
def raster(make_raster: Any) -> Path:
    """150 x 210 pixels in blocks of 64."""
    return Path(make_raster("in.tif", (3, 150, 210), "EPSG:32640", (1, 0, 3e5, 0, -1, 2e6), **TILES))


def call(*words: object) -> Result:
    """A command."""
    return CliRunner().invoke(cli, list(map(str, words)))


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, with size and time."""
    stats = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*")}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def line_of(done: Any) -> str:
    """The one line on stderr, without what all of them begin with."""
    (line,) = done.stderr.splitlines()
    assert line.startswith("eomt-batch: error: ")
    return str(line.removeprefix("eomt-batch: error: "))


@pytest.fixture
def refused(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """`refused(raster, *options)`: the line with which run and plan alike refuse it, leaving all as it was."""

    def run(raster: Path, *options: object) -> str:
        words = [raster, "-m", model, "-o", tmp_path / "o.zarr", *options]  # of an option given twice the last counts
        before = listing(tmp_path)
        done, planned = call("run", *words), call("plan", *words)
        assert (done.exit_code, done.stdout, planned.exit_code) == (2, "", 2)
        assert listing(tmp_path) == before
        assert capfd.readouterr() == ("", "")  # nor does GDAL say anything of its own
        line = line_of(done)
        assert line_of(planned).replace("plan --help", "run --help") == line
        return line

    return run


def test_a_file_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    """The system's reason, and what to look at."""
    path = tmp_path / "gone.tif"
    assert refused(path) == f"{path}: cannot be read (No such file or directory); check the path and its permissions"


def test_a_folder(refused: Refused, tmp_path: Path) -> None:
    """Its rasters are to be named."""
    assert refused(tmp_path) == f"{tmp_path}: is a folder; name the rasters in it"


def test_text_by_a_rasters_name(refused: Refused, tmp_path: Path) -> None:
    """The line lists what is read, and how to get there."""
    path = tmp_path / "text.tif"
    path.write_text("This is no raster.\n")
    line = refused(path)
    assert line.startswith(f"{path}: is no raster that is read (TIFF, PNG, ")
    assert line.endswith(f"; convert it: gdal_translate {path} out.tif -co TILED=YES")


def test_an_empty_file(refused: Refused, tmp_path: Path) -> None:
    """What a copy that failed at once leaves."""
    (tmp_path / "empty.tif").touch()
    assert refused(tmp_path / "empty.tif") == f"{tmp_path}/empty.tif: is empty (0 bytes); copy it again"


@pytest.mark.parametrize(("kept", "what"), [(100, "a TIFF directory is"), (9000, "of the 12 blocks of its image are")])
def test_a_truncated_file(refused: Refused, raster: Path, kept: int, what: str) -> None:
    """What a copy that was stopped leaves; known before the start, from the table of blocks."""
    raster.write_bytes(raster.read_bytes()[:kept])
    line = refused(raster)
    assert line.startswith(f"{raster}: cut short, ")
    assert line.endswith(f"{what} beyond its {kept} bytes; copy it again")


def test_complex_numbers(refused: Refused, make_raster: Any) -> None:
    """Radar, say."""
    path = make_raster("radar.tif", np.ones((3, 64, 64), np.complex64))
    assert refused(path) == f"{path}: pixels are complex64, not real numbers; convert them first"


def test_too_few_bands(refused: Refused, make_raster: Any) -> None:
    """The option that helps can be copied from the line."""
    path = make_raster("two.tif", (2, 64, 64))
    assert refused(path) == f"{path}: has 2 bands, the model takes 3; name 3, repeats are allowed: --bands 1,1,1"


def test_a_model_that_is_nowhere(refused: Refused, raster: Path) -> None:
    """Neither a path, nor a model that comes with the program, nor the form of a hub id."""
    want = (
        "--model nowhere: no such file or directory, no embedded model (aerial-tiny, nuclei-tiny), and no hub id of "
        "the form ORG/NAME[@REV]; check it"
    )
    assert refused(raster, "-m", "nowhere") == want


def test_a_model_that_only_the_hub_could_have(raster: Path, tmp_path: Path) -> None:
    """The hub is not to be asked: the line says why nothing came, and what to check.

    A process of its own, since the hub's library looks at its environment once.
    """
    before = listing(tmp_path)
    words = ["run", str(raster), "-m", "nobody/nothing", "-o", str(tmp_path / "o.zarr")]
    done = subprocess.run(
        [sys.executable, "-c", "from workflows.cli import main; main()", *words],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, listing(tmp_path)) == (2, "", before)
    line = line_of(done)
    assert line.startswith("--model nobody/nothing: no such path here, and the hub did not give it (")
    assert line.endswith("); check the name, the network, and HF_TOKEN where access is restricted")


def tiny_weights(without: str) -> dict[str, torch.Tensor]:
    """A tiny model's tensors, but for one."""
    shapes = expected_shapes(TINY)
    assert without in shapes
    return {name: torch.zeros(shape) for name, shape in shapes.items() if name != without}


@pytest.mark.parametrize("tensor", TENSORS)
def test_a_model_with_a_tensor_missing(refused: Refused, raster: Path, tmp_path: Path, tensor: str) -> None:
    """It is named, or the count that it changes: nothing is made up in its place."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    save_file(tiny_weights(tensor), folder / WEIGHTS)
    card = ModelCard("tiny", ("a", "b", "c"), tasks=("semantic",))
    (folder / OWN_CARD).write_text(card_text(TINY, card))
    line = refused(raster, "-m", folder)
    assert line.startswith(f"--model {folder}: ")
    assert re.search(f"{tensor}( is missing)?;|num_registers 4, the weights have 0;", line)
    assert line.endswith("the files are not those of one whole model, fetch them again")


@pytest.mark.parametrize("tensor", TENSORS)
def test_the_references_weights_with_a_key_removed(refused: Refused, raster: Path, tmp_path: Path, tensor: str) -> None:
    """A pickle is looked into without being run, and the missing key is named."""
    path = tmp_path / "pytorch_model.bin"
    torch.save(to_reference(tiny_weights(tensor)), path)
    line = refused(raster, "-m", path)
    assert line.startswith(f"--model {path}: ")
    assert re.search(f"{tensor}( is missing)?; the files are not those of one whole model, fetch them again$", line)


@pytest.mark.parametrize("file", ["weights.txt", "weights.bin", "weights.safetensors"])
def test_a_file_that_is_no_model(refused: Refused, raster: Path, tmp_path: Path, file: str) -> None:
    """Each kind says what it would take."""
    (tmp_path / file).write_text("no weights")
    line = refused(raster, "-m", tmp_path / file)
    assert line.startswith(f"--model {tmp_path / file}: ")
    assert re.search("; (give one that ends in .safetensors|save it as safetensors|fetch it again)", line)


def test_a_folder_without_a_model(refused: Refused, raster: Path, tmp_path: Path) -> None:
    """What was looked for."""
    (tmp_path / "none").mkdir()
    line = refused(raster, "-m", tmp_path / "none")
    assert line.startswith(f"--model {tmp_path}/none: holds no model.safetensors, ")
    assert line.endswith("; give a directory that does")


def test_a_base_for_a_model_that_is_whole(refused: Refused, raster: Path, model: Path) -> None:
    """It would not be looked at."""
    assert refused(raster, "--base", model).endswith(f"whole, not differences from --base {model}: leave the base out")


@pytest.mark.parametrize("overlap", ["64", "200", "100%", "1.5"])
def test_an_overlap_of_a_tile_or_more(refused: Refused, raster: Path, overlap: str) -> None:
    """Pixels are counted for the tile that the model has."""
    line = refused(raster, "--overlap", overlap)
    assert re.fullmatch(rf"--overlap {overlap}: \d+ pixels must be less than the tile size \(64\)", line)


@pytest.mark.parametrize(
    ("size", "line"),
    [
        ("70", "--tile-size 70x70: 70 is no multiple of 16, the model's lattice; take 64"),
        ("64x70", "--tile-size 64x70: 70 is no multiple of 16, the model's lattice; take 64"),
        ("0", "--tile-size 0: give at least 1"),
    ],
)
def test_a_tile_size_off_the_models_lattice(refused: Refused, raster: Path, size: str, line: str) -> None:
    """With one that would do."""
    assert refused(raster, "--tile-size", size) == line


@pytest.mark.parametrize("folder", ["o.zarr", "o.run"])
def test_a_folder_that_is_someone_elses(refused: Refused, raster: Path, tmp_path: Path, folder: str) -> None:
    """Not even --overwrite touches it."""
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "thesis.txt").write_text("all of it")
    for options in ([], ["--overwrite"]):
        line = refused(raster, *options)
        assert f"{tmp_path / folder}: something else is there that this tool did not make; take another" in line


def test_a_place_below_a_file(refused: Refused, raster: Path) -> None:
    """Where no folder can be made."""
    line = refused(raster, "-o", raster / "deep" / "o.zarr")
    assert line.startswith(f"--out {raster}/deep/o.zarr: {raster} ")
    assert line.endswith("; take another path")


def test_a_mosaic_by_another_name(refused: Refused, raster: Path, tmp_path: Path) -> None:
    """The name that would do is given."""
    line = refused(raster, "-o", tmp_path / "o.tif")
    assert line == f"--out {tmp_path}/o.tif: a mosaic's path ends in .zarr; give o.zarr"


@pytest.mark.parametrize("task", ["panoptic", "instance", "segment"])
def test_a_task_that_the_model_is_not_for(refused: Refused, raster: Path, task: str) -> None:
    """Known or not."""
    want = f"--task: model palette-3 is for semantic, not for {task}; leave the option out"
    assert refused(raster, "--task", task) == want


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--colour", "red"], "No such option '--colour'. Did you mean '--out'; see eomt-batch run --help"),
        (["--scale", "bright"], "--scale bright: give auto, LO,HI, or one LO,HI per band joined by ';'"),
        (["--scale", "9,1"], "--scale 9,1: 9 must be below 1, both finite"),
        (["--scale", "0,1;0,2"], "--scale 0,1;0,2: 2 ranges for 3 bands; give one, or one per band"),
        (["--nodata", "x"], "--nodata x: is no number; give one, or none"),
        (["--nodata", "300"], "--nodata 300: no pixel of type uint8 has that value; give another, or none"),
        (["--bands", "1,2"], "--bands 1,2: 2 given, the model takes 3; name 3, repeats are allowed: --bands 1,1,1"),
        (["--bands", "1,2,nir"], "--bands nir: {raster} has no such band; it has 1 red, 2 green, 3 blue"),
        (["--max-memory", "0"], "--max-memory 0: give at least 1"),
        (["--subdataset", "2"], "--subdataset 2: {raster} has 1..1; give one of them"),
        (["--max-block-bytes", "9KB"], "{raster}: one of its blocks decodes to 12288 bytes, --max-block-bytes is 9000"),
    ],
)
def test_an_option_that_does_not_fit(refused: Refused, raster: Path, options: list[str], line: str) -> None:
    """The option, its value, and what it takes."""
    assert refused(raster, *options).startswith(line.format(raster=raster))


@pytest.mark.parametrize("words", [(), ("bench",)])
def test_a_command_without_a_word_is_answered_with_its_help(words: tuple[str, ...]) -> None:
    """As many lines as it takes: the one case where a single line would not do."""
    done = call(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: eomt-batch ")
    assert len(done.stderr.splitlines()) > 5


def test_too_little_memory(raster: Path, model: Path, tmp_path: Path) -> None:
    """What it takes, what it may take, and which options lower it; plan shows its figures before."""
    before = listing(tmp_path)
    done = call("run", raster, "-m", model, "-o", tmp_path / "o.zarr", "--max-memory", "10MB")
    assert (done.exit_code, done.stdout, listing(tmp_path)) == (2, "", before)
    line = line_of(done)
    assert re.match(r"--max-memory: the run needs \d\.\d\d GB and may take 0\.01 GB; lower --batch-size, ", line)
