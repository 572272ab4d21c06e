"""Who may import whom: the contracts of pyproject.toml hold, and they notice what they are there for."""

import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT_IMPORTS = Path(sysconfig.get_path("scripts"), "lint-imports")


def lint(folder: Path) -> tuple[int, str]:
    """The exit status and the words of import-linter over the packages in a folder."""
    # Alone in the path: an installed copy of the packages must not answer for those in the folder.
    command = [LINT_IMPORTS, "--config", ROOT / "pyproject.toml", "--no-cache"]
    done = subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def house(tmp_path):
    """The packages, empty."""
    for package in ("eomt_core", "pipeline", "pipeline/steps", "pipeline/storage", "pipeline/stitch", "workflows"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    return tmp_path


def test_the_layers_hold():
    """No module of this checkout imports what its layer must not know."""
    status, words = lint(ROOT)
    assert status == 0, words


@pytest.mark.parametrize("package", ["eomt_core", "pipeline", "workflows"])
def test_nothing_goes_through_a_graph_of_overlapping_chunks(package):
    """Dask's map_overlap costs a dozen tasks a chunk; tiles know their own margins."""
    assert not [path for path in (ROOT / package).rglob("*.py") if "map_overlap" in path.read_text()]


def test_a_house_without_furniture_passes(house):
    """What is broken below is broken by the one import."""
    assert lint(house)[0] == 0


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("pipeline/run.py", "import workflows"),
        ("eomt_core/eomt.py", "import pipeline"),
        ("eomt_core/eomt.py", "import rasterio"),
        ("eomt_core/eomt.py", "from dask import delayed"),
        ("pipeline/run.py", "import click"),
        ("pipeline/steps/infer.py", "from torch import nn"),
        ("pipeline/stitch/blend.py", "import zarr"),
        ("pipeline/storage/shards.py", "import pipeline.steps"),
        ("pipeline/plan.py", "def plan():\n    import timm"),
    ],
)
def test_a_forbidden_import_is_noticed(house, module, statement):
    """Upwards, sideways, or hidden in a function; the module is named."""
    (house / module).write_text(f"{statement}\n")
    status, words = lint(house)
    assert status == 1
    assert module.removesuffix(".py").replace("/", ".") in words
