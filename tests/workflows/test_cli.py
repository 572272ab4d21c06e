"""The commands as a user meets them: what they print, what they leave, how they end."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import open_mosaic
from pipeline.errors import RetryLater, RunError

SEGMENT = "pipeline.run.segment_raster"


def last_line(result: Any) -> str:
    """The line that tells why a command ended."""
    return str(result.stderr).splitlines()[-1]


def raising(error: BaseException) -> Callable[..., Any]:
    """A segmentation that fails at once."""

    def fail(*args: Any) -> Any:
        raise error

    return fail


def test_run_writes_the_classes_and_reports_as_json(command, raster: Path, model: Path, tmp_path: Path) -> None:
    """The stripes come back as classes; stdout is the report alone."""
    result = command("run", raster, "-m", model, "-o", tmp_path / "masks.zarr", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["pixels"], report["reused"]) == (160 * 224, 0)
    classes = open_mosaic(tmp_path / "masks.zarr").classes[:]
    np.testing.assert_array_equal(classes, np.arange(160)[:, None] // 32 % 3 + np.zeros((1, 224)))


def test_the_same_command_continues(command, finished: Path, raster: Path, model: Path) -> None:
    """A finished run infers nothing again."""
    report = json.loads(command("run", raster, "-m", model, "-o", finished, "--chunk", 64, "--json").stdout)
    assert (report["inferred"], report["reused"], report["rendered"]) == (0, 1, 0)


def test_run_echoes_what_was_decided(command, raster: Path, model: Path, tmp_path: Path) -> None:
    """Tile size, overlap, stride, tiles and device stand on stderr before the first block."""
    result = command("run", raster, "-m", model, "-o", tmp_path / "a.zarr", "--overlap", "20", "--device", "cpu")
    decided, _, progress = result.stderr.partition("infer: 0 %")
    assert "tiles    64x64, overlap 32x32, stride 32x32: 4x6 = 24 tiles" in decided
    assert "device   cpu" in decided
    assert "100 %" in progress


def test_a_changed_option_names_both_values(command, refused, finished: Path, raster: Path, model: Path) -> None:
    """Old and new, and what to do."""
    line = refused(command("run", raster, "-m", model, "-o", finished, "--chunk", 64, "--tile-size", 96))
    assert "tile-size 64x64, now tile-size 96x96" in line
    assert "--overwrite" in line


def test_quiet_run_prints_the_result_alone(command, raster: Path, model: Path, tmp_path: Path) -> None:
    """With -q and --json stderr stays empty."""
    result = command("run", raster, "-m", model, "-o", tmp_path / "a.zarr", "-q", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["output"] == str(tmp_path / "a.zarr")


def test_log_json_makes_every_line_an_object(command, raster: Path, model: Path, tmp_path: Path) -> None:
    """Plan first, then steps and blocks."""
    result = command("run", raster, "-m", model, "-o", tmp_path / "a.zarr", "--log-json")
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert [event["event"] for event in events] == ["plan", "step", "block", "step", "block"]
    assert events[0]["tile_size"] == [64, 64]
    assert events[2]["step"] == "infer"


def test_a_part_of_a_run_says_what_comes_after_all_parts(command, raster: Path, model: Path, tmp_path: Path) -> None:
    """The command that makes the mosaic, which then works."""
    out = tmp_path / "masks.zarr"
    words = command("run", raster, "-m", model, "-o", out, "--shard", "0/1").stdout
    assert f"part 0/1 only; after all parts: eomt-batch stitch {out}" in words
    assert not out.exists()
    assert command("stitch", out).exit_code == 0
    assert out.exists()


def test_several_rasters_make_a_mosaic_each(command, make_stripes, model: Path, tmp_path: Path) -> None:
    """OUT/<stem>.zarr, from arguments and from a list; a line of JSON per raster."""
    first, second = make_stripes("a.tif", (64, 64)), make_stripes("b.tif", (64, 96))
    (tmp_path / "list").write_text(f"# more\n\n{second}\n")
    args = ["-m", model, "-o", tmp_path / "out", "--input-list", tmp_path / "list", "--json"]
    result = command("run", first, *args)
    assert result.exit_code == 0, result.stderr
    assert [json.loads(line)["input"] for line in result.stdout.splitlines()] == [str(first), str(second)]
    assert open_mosaic(tmp_path / "out" / "b.zarr").shape == (64, 96)


def test_one_bad_raster_does_not_stop_the_others(command, make_stripes, model: Path, tmp_path: Path) -> None:
    """Exit 3, and the last line lists what failed."""
    good, bad = make_stripes("good.tif", (64, 64)), tmp_path / "bad.tif"
    bad.write_text("no raster")
    result = command("run", bad, good, "-m", model, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert last_line(result) == f"eomt-batch: error: 1 of 2 inputs failed: {bad}"
    assert open_mosaic(tmp_path / "out" / "good.zarr").shape == (64, 64)


def test_where_all_rasters_are_bad_nothing_was_started(command, model: Path, tmp_path: Path) -> None:
    """Exit 2, as for one."""
    result = command("run", "gone.tif", "lost.tif", "-m", model, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_bad_model_is_told_once(command, refused, tmp_path: Path) -> None:
    """Not once per raster."""
    assert "nowhere" in refused(command("run", "a.tif", "b.tif", "-m", "nowhere", "-o", tmp_path / "out"))


def test_what_would_stop_all_rasters_stops_the_command(
    command, monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    """A lost scheduler is lost for the others too: exit 75."""
    monkeypatch.setattr(SEGMENT, raising(RetryLater("the scheduler is gone")))
    result = command("run", "a.tif", "b.tif", "-m", model, "-o", tmp_path / "out")
    assert result.exit_code == 75
    assert last_line(result) == "eomt-batch: error: the scheduler is gone"
    assert "b.tif" not in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["a.tif", "-m", "m"], "--out is missing"),
        (["-m", "m", "-o", "b.zarr"], "no input"),
        (["a.tif", "c.tif", "-m", "m", "-o", "b.zarr"], "2 inputs need a folder"),
        (["x/a.tif", "y/a.png", "-m", "m", "-o", "b"], "x/a.tif and y/a.png would both become b/a.zarr"),
        (["a.tif", "-m", "m", "-o", "b.zarr", "--tile-size", "6y"], "--tile-size 6y: give pixels"),
        (["a.tif", "-m", "m", "-o", "b.zarr", "--overlap", "a"], "--overlap a: give pixels"),
        (["a.tif", "-m", "m", "-o", "b.zarr", "--max-memory", "8X"], "--max-memory 8X: give a size"),
        (["a.tif", "-m", "m", "-o", "b.zarr", "--device", "gpu"], "--device gpu: give auto, cpu, cuda"),
        (["a.tif", "-m", "m", "-o", "b.zarr", "--device", "cuda:0,"], "--device cuda:0,: give auto"),
        (["a.tif", "-m", "m", "-o", "b.zarr", "--batch-size", "0"], "--batch-size 0: give at least 1"),
        (["a.tif", "-m", "m", "-o", "b.zarr", "--readers", "x"], "'--readers': 'x' is not a valid integer"),
        (["a.tif", "-m", "m", "-o", "b.zarr", "--precision", "int8"], "'--precision'"),
        (["a.tif", "-m", "m", "-o", "b.zarr", "--zarr-format", "4"], "--zarr-format 4: give 2 or 3"),
        (["a.tif", "-m", "m", "-o", "b.zarr", "--score-threshold", "2"], "--score-threshold 2.0"),
        (["a.tif", "-m", "m", "-o", "b.zarr", "--colour", "red"], "No such option"),
        (["a.tif", "-m", "nowhere", "-o", "b.zarr"], "nowhere"),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(command, refused, args: list[str], words: str) -> None:
    """Exit 2, the value, and what to give instead; nothing is written."""
    assert words in refused(command("run", *args))
    assert not Path("b.zarr").exists()


def test_an_unknown_command_is_refused_in_one_line(command, refused) -> None:
    """As any other wrong word."""
    assert "No such command 'segment'" in refused(command("segment"))


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RunError("block 3-4 is damaged"), 1, "error: block 3-4 is damaged"),
        (RetryLater("no worker"), 75, "error: no worker"),
        (OSError(errno.ENOSPC, "No space left on device"), 75, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), 1, "Permission denied; the same command continues; -v"),
        (ZeroDivisionError("division\nby zero"), 1, "ZeroDivisionError: division by zero; this is a defect; -v shows"),
    ],
)
def test_an_error_ends_with_its_code_and_one_line(
    command, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, words: str
) -> None:
    """And without a traceback."""
    monkeypatch.setattr(SEGMENT, raising(error))
    result = command("run", "a.tif", "-m", "m", "-o", "b.zarr")
    assert result.exit_code == code
    (line,) = result.stderr.splitlines()
    assert words in line


def test_verbose_shows_the_traceback(command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the line, which stays the last."""
    monkeypatch.setattr(SEGMENT, raising(ZeroDivisionError("oh")))
    result = command("run", "a.tif", "-m", "m", "-o", "b.zarr", "-v")
    assert "Traceback" in result.stderr
    assert last_line(result).startswith("eomt-batch: error: ZeroDivisionError")


def test_errors_are_objects_too(command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the log as JSON reads the end of it as JSON."""
    monkeypatch.setattr(SEGMENT, raising(RunError("oh")))
    result = command("run", "a.tif", "-m", "m", "-o", "b.zarr", "--log-json")
    event = json.loads(result.stderr)
    assert (event["level"], event["exit_code"]) == ("error", 1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_its_code_and_says_how_to_go_on(
    command, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    """The process sends itself the signal in the middle of a run."""
    monkeypatch.setattr(SEGMENT, lambda *args: os.kill(os.getpid(), number))
    result = command("run", "a.tif", "-m", "m", "-o", "b.zarr")
    assert result.exit_code == code
    assert last_line(result) == f"eomt-batch: error: stopped by {number.name}; the same command continues"


def test_a_signal_does_not_wait_for_busy_threads() -> None:
    """A block that is under way in a thread cannot be stopped, and need not be: its record would come last."""
    code = (
        "import os, signal, threading, time, pipeline.run\nfrom workflows.cli import main\n"
        "def busy(*args):\n"
        "    threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "pipeline.run.segment_raster = busy\nmain()"
    )
    args = [sys.executable, "-c", code, "run", "a.tif", "-m", "m", "-o", "b.zarr"]
    done = subprocess.run(args, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 143
    assert done.stderr.splitlines() == ["eomt-batch: error: stopped by SIGTERM; the same command continues"]


def test_a_reader_that_has_gone_is_no_error() -> None:
    """`eomt-batch ... | head` ends quietly."""
    read, write = os.pipe()
    os.close(read)
    code = "from workflows.cli import main; main()"
    args = [sys.executable, "-c", code, "run", "--print-config"]
    done = subprocess.run(args, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""
