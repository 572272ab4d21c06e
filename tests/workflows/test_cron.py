"""The recipe for cron: its line, run as cron would."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import open_mosaic

ROOT = Path(__file__).parents[2]
CRONTAB = (ROOT / "workflows" / "recipes" / "cron" / "crontab").read_text()
SETTINGS = dict(re.findall(r"^([A-Z]+)=(.*)$", CRONTAB, re.MULTILINE))
[LINE] = [line for line in CRONTAB.splitlines() if re.match(r"[\d*]", line)]
*WHEN, COMMAND = LINE.split(maxsplit=5)

pytestmark = pytest.mark.skipif(not shutil.which("flock"), reason="flock is not installed (apt-get install util-linux)")


@pytest.fixture
def night(tmp_path: Path, model: Path):
    """`night()`: the process of the line, in an environment as bare as cron's, with the data in the test's folder."""
    program = tmp_path / "bin" / "eomt-batch"
    program.parent.mkdir()
    # The model of the tests instead of the default one.
    options = ["--model", str(model), "--chunk", "64", "--device", "cpu"]
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom workflows.cli import main\n"
        f"sys.argv += {options!r}\nmain()\n"
    )
    program.chmod(0o755)
    there = {"/data": str(tmp_path), "/opt/eomt-batch/bin": str(program.parent)}

    def start() -> subprocess.CompletedProcess[str]:
        line, path = COMMAND, SETTINGS["PATH"]
        for old, new in there.items():
            line, path = line.replace(old, new), path.replace(old, new)
        environment = {"HOME": str(tmp_path), "LOGNAME": "root", "SHELL": SETTINGS["SHELL"], "PATH": path}
        shell = [SETTINGS["SHELL"], "-c", line]
        return subprocess.run(shell, cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=120)

    return start


def test_it_is_every_night_at_two() -> None:
    """A percent sign would end the command: cron makes a new line of it."""
    assert WHEN == ["0", "2", "*", "*", "*"]
    assert "%" not in COMMAND


@pytest.mark.slow
def test_what_is_new_in_the_list_is_done_and_only_failures_are_mailed(night, make_stripes, tmp_path: Path) -> None:
    """Cron mails what is printed; a raster that is missing does not stop the others."""
    rasters = [make_stripes(f"{name}.tif", folder=tmp_path) for name in "ab"]
    (tmp_path / "rasters.txt").write_text(f"{rasters[0].name}\n{rasters[1].name}\n")
    assert (night().stdout, night().stdout) == ("", "")
    assert all(open_mosaic(tmp_path / "masks" / f"{name}.zarr").classes.shape == (160, 224) for name in "ab")

    (tmp_path / "rasters.txt").write_text(f"{rasters[0].name}\nmissing.tif\n")
    assert night().stdout == f"eomt-batch ended with exit code 3; {tmp_path}/eomt-batch.log says why\n"
    said = [json.loads(line) for line in (tmp_path / "eomt-batch.log").read_text().splitlines() if line[0] == "{"]
    assert any("missing.tif" in str(line) for line in said)


def test_a_night_that_is_still_at_work_is_not_overtaken(night, tmp_path: Path) -> None:
    """Nothing is started and nothing is mailed."""
    holder = ["flock", "--no-fork", "eomt-batch.lock", "sh", "-c", "echo held; exec sleep 60"]
    with subprocess.Popen(holder, cwd=tmp_path, stdout=subprocess.PIPE) as held:
        assert held.stdout is not None
        held.stdout.readline()
        done = night()
        held.terminate()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "masks").exists()
