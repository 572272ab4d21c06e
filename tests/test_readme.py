"""The README says what is so: its options exist, its lines are the agreed ones, its Python runs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from eomt_core.palette import save_palette
from workflows.cli.main import cli

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
NEW_ENVIRONMENT = "python3 -m venv .venv && . .venv/bin/activate && "


def code(heading: str) -> str:
    """The Python under a heading."""
    return README.partition(f"\n## {heading}\n")[2].partition("```python\n")[2].partition("```")[0]


def commands(group: click.Group) -> Iterator[click.Command]:
    """All commands, those within groups too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield command
        if isinstance(command, click.Group):
            yield from commands(command)


@pytest.mark.parametrize("line", ["pip install . && eomt-batch demo", "pip install '.[test]' && pytest"])
def test_two_lines_do_everything(line):
    """Each stands once, alone on its line, to be copied."""
    assert README.splitlines().count(NEW_ENVIRONMENT + line) == 1


def test_it_is_short():
    """What is longer is not read."""
    assert len(README.splitlines()) <= 150


def test_every_option_in_it_exists():
    """No option is promised that no command takes."""
    parameters = [parameter for command in commands(cli) for parameter in command.get_params(click.Context(command))]
    taken = {flag for parameter in parameters for flag in (*parameter.opts, *parameter.secondary_opts)}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= taken


def test_every_command_in_it_exists():
    """The first table names all commands and no other."""
    table = README.partition("| command |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)", table, re.MULTILINE) == cli.list_commands(click.Context(cli))


def test_its_python_runs(make_raster, tmp_path, monkeypatch):
    """Copied with a raster and a model at hand, the lines make a mosaic, and both ways of opening it agree."""
    green = np.full((3, 600, 1100), [[[0]], [[255]], [[0]]], "uint8")
    make_raster("input.tif", green, "EPSG:32640", (1, 0, 330000, 0, -1, 2780000))
    save_palette(tmp_path / "model", [(1, 0, 0), (0, 1, 0)])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code("Python") + code("What comes out"), names)
    assert (names["classes"] == 1).all()
    assert names["classes"].shape == (600, 1024)
    assert names["masks"].classes.dtype == "uint8"
    assert names["masks"].rio.crs.to_epsg() == 32640
