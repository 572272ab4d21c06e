"""Options from a file, and files from options."""

import tomllib
from pathlib import Path

import pytest

MINIMAL = ["run", "--print-config"]


def printed(command, *args: object) -> dict[str, object]:
    """What --print-config says."""
    result = command(*MINIMAL, *args)
    assert result.exit_code == 0, result.stderr
    return tomllib.loads(result.stdout)


def settings(folder: Path, text: str) -> Path:
    """A configuration file."""
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_printed_options_are_the_defaults(command) -> None:
    """Without any option, those of a RunConfig."""
    found = printed(command)
    assert found["overlap"] == "0.25"
    assert found["tile-block"] == 8
    assert found["keep-store"] is True
    assert found["model"] == "aerial-tiny"


def test_what_is_printed_reads_back_the_same(command, tmp_path: Path) -> None:
    """A printed configuration makes the same configuration."""
    args = ["-m", "mödel", "--tile-size", "640x896", "--overlap", "25%", "--max-memory", "8GB", "--drop-store", "-f"]
    args += [
        "--score-threshold",
        "0.5",
        "--batch-size",
        "4",
        "--workers",
        "2",
        "-o",
        "a.zarr",
        "--scale",
        "0,1;2,3;4,5",
    ]
    first = command(*MINIMAL, *args).stdout
    assert command(*MINIMAL, "--config", settings(tmp_path, first)).stdout == first


def test_flags_win_over_the_file(command, tmp_path: Path) -> None:
    """The file gives defaults only."""
    path = settings(tmp_path, 'overlap = "128"\ntile-size = 512\n')
    found = printed(command, "--config", path, "--overlap", "64")
    assert (found["overlap"], found["tile-size"]) == ("64", "512x512")


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("bands = [4, 3, 2]", "bands", "4,3,2"),
        ("tile_size = [512, 640]", "tile-size", "512x640"),
        ("patch-size = 512", "tile-size", "512x512"),
        ("max-memory = 8e9", "max-memory", 8_000_000_000),
        ("drop-store = true", "keep-store", False),
        ("overwrite = true", "overwrite", True),
        ('batch-size = "auto"', "batch-size", None),
        ("score-threshold = 0.25", "score-threshold", 0.25),
    ],
)
def test_a_file_may_say_it_in_its_own_types(command, tmp_path: Path, line: str, name: str, value: object) -> None:
    """Numbers, lists and booleans, under any of the option's spellings."""
    assert printed(command, "--config", settings(tmp_path, line)).get(name) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("overlapp = 3\ntile = 4", "overlapp, tile"),
        ("print-config = true", "print-config"),
        ("overlap =", "cannot be read as TOML"),
        ("overwrite = 1", "overwrite: give true or false"),
        ("overlap = true", "overlap: not a flag"),
        ("[overlap]\npixels = 3", "overlap: give text, a number"),
        ('tile-size = "big"', "--tile-size big"),
    ],
)
def test_a_wrong_file_is_refused_by_name(command, tmp_path: Path, text: str, words: str) -> None:
    """The line names the key; nothing is printed."""
    result = command(*MINIMAL, "--config", settings(tmp_path, text))
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""


def test_a_file_can_hold_a_whole_run(command, tmp_path: Path, raster: Path, model: Path) -> None:
    """Model and place come from the file, the raster from the command line."""
    path = settings(tmp_path, f'model = "{model}"\nout = "{tmp_path}/masks.zarr"\nquiet = true\njson = true\n')
    result = command("run", raster, "--config", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert (tmp_path / "masks.zarr").is_dir()
