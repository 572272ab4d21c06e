"""Help is quick and complete: no heavy import, an example in every command, every option of a run."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import pytest

from pipeline import RunConfig
from workflows.cli.main import COMMANDS, cli
from workflows.cli.options import OF_RUN
from workflows.cli.plan import plan
from workflows.cli.run import run

NOT_BUILT = ("--resolution", "--mosaic", "--backend")


def modules_after(*args: object) -> set[str]:
    """The modules that a command has imported."""
    code = (
        "import sys, json\nfrom workflows.cli import main\n"
        "try: main()\nexcept SystemExit: pass\nprint(json.dumps(list(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("args", [("--help",), ("run", "--help")])
def test_help_imports_the_shell_alone(args: tuple[str, ...]) -> None:
    """No array, no raster, no cluster, no model library is needed to read the help."""
    packages = {name.partition(".")[0] for name in modules_after(*args)}
    heavy = {"torch", "timm", "numpy", "rasterio", "zarr", "dask", "distributed", "tqdm", "eomt_core"}
    assert {"click", "workflows"} <= packages
    assert not packages & heavy


def test_help_imports_the_options_defaults_alone() -> None:
    """Of the pipeline only what declares them, and what keeps secrets out of words."""
    ours = {name for name in modules_after("run", "--help") if name.startswith("pipeline.")}
    rooms = {"pipeline.mosaic"}
    assert ours - rooms == {"pipeline.addresses", "pipeline.mosaic.chunks", "pipeline.config", "pipeline.errors"}


def test_plan_imports_no_torch(raster: Path, model: Path) -> None:
    """A plan can be made on a machine that has no room for torch."""
    loaded = modules_after("plan", raster, "-m", model)
    assert "rasterio" in loaded
    assert not {"torch", "timm"} & loaded


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example(name: str) -> None:
    """Its help ends with a line that can be copied."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert f"eomt-batch {name}" in (command.epilog or "")


def test_the_group_lists_every_command(command) -> None:
    """The help of the group names them all."""
    words = command("--help").stdout.split()
    assert set(COMMANDS) <= set(words)


def test_every_field_of_a_configuration_is_an_option() -> None:
    """What Python can ask for, the shell can ask for."""
    assert {field.name for field in fields(RunConfig)} <= set(OF_RUN)


def test_plan_takes_the_options_of_run() -> None:
    """A command line that was planned can be run."""
    assert [param.opts for param in plan.params] == [param.opts for param in run.params]


@pytest.mark.parametrize("option", NOT_BUILT)
def test_an_option_that_is_not_built_is_refused(command, option: str) -> None:
    """Rather than taken and ignored."""
    result = command("run", "a.tif", "--out", "b.zarr", option, "1")
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    assert option in result.stderr


def test_version_names_torch_and_gdal(command) -> None:
    """What a report of an error needs."""
    import rasterio
    import torch

    words = command("--version").stdout
    assert words.startswith("eomt-batch ")
    assert f"torch {torch.__version__.split('+')[0]}" in words
    assert f"GDAL {rasterio.__gdal_version__}" in words
