"""What is secret in an address, and a hub's token, gets into no file that is made and no word that is said."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from web import MENDED, Web, serving

from eomt_core.palette import save_palette
from workflows.cli.main import cli

USER = "user:CANARY1"
QUERY = "X-Amz-Signature=CANARY2&token=CANARY3&weird=CANARY4"
BLOCKS = {"tiled": True, "blockxsize": 64, "blockysize": 64}
MIDWAY = 7
"""Requests for headers and the first blocks; more are needed for the rest."""

PATIENCE = 120
"""Seconds after which a process is given up."""

Hush = Callable[[str], str]


class Place(NamedTuple):
    """A signed raster on a server, a model, and a folder for all that is made."""

    web: Web
    model: Path
    made: Path

    def url(self, name: str = "scene.tif") -> str:
        """The signed address."""
        return f"http://{USER}@127.0.0.1:{self.web.port}/{name}?{QUERY}"

    def words(self, command: str, *options: object, name: str = "scene.tif") -> list[str]:
        """A command over the raster."""
        return [command, self.url(name), "-m", str(self.model), "-o", str(self.made / "o.zarr"), *map(str, options)]

    def mend(self) -> None:
        """Let the server answer again."""
        (self.model.parent / "served" / MENDED).touch()


@pytest.fixture
def signed(make_raster: Any, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """`signed(breaks_after)`: a raster behind a user and a signature, on a server that may break."""
    model = save_palette(tmp_path / "palette", [[0.0] * 3, [0.5] * 3, [1.0] * 3], tile=64)
    make_raster("served/scene.tif", (3, 900, 1260), "EPSG:32640", (1, 0, 3e5, 0, -1, 2e6), **BLOCKS)
    (tmp_path / "made").mkdir()
    with ExitStack() as stack:

        def serve(breaks_after: int = 10**9) -> Place:
            server = serving(tmp_path / "served", tmp_path / "asked", USER, QUERY, breaks_after)
            return Place(stack.enter_context(server), model, tmp_path / "made")

        yield serve


def silent(made: Path, *said: str) -> None:
    """Assert that no file below a folder, and nothing that was said, holds a secret; there are files."""
    files = [path for path in made.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if b"CANARY" in path.read_bytes() or "CANARY" in path.name] == []
    assert "CANARY" not in "".join(said)


def program(words: list[str], **environment: str) -> tuple[int, str]:
    """Exit code and all words of a command in a process of its own."""
    code = [sys.executable, "-c", "from workflows.cli import main; main()", *words]
    done = subprocess.run(
        code, env=os.environ | environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.returncode, done.stdout + done.stderr


def called(*words: object) -> tuple[int, str]:
    """Exit code and all words of a command in this process."""
    done = CliRunner().invoke(cli, list(map(str, words)))
    return done.exit_code, done.stdout + done.stderr


@pytest.mark.slow
def test_a_signed_run_that_fails_and_goes_on_keeps_its_secrets(signed: Callable[..., Place]) -> None:
    """The server refuses midway, with a traceback; then the same command goes on in worker processes, logging JSON."""
    place = signed(MIDWAY)
    failed, trace = program(place.words("run", "--allow-remote", "-v"))
    assert failed == 75
    assert "Traceback" in trace
    assert f"127.0.0.1:{place.web.port}/scene.tif: cannot read rows" in trace
    place.mend()
    done, events = program(place.words("run", "--allow-remote", "--workers", 2, "--log-json"))
    assert done == 0
    assert [json.loads(line)["event"] for line in events.splitlines() if line.startswith("{")].count("block") > 9
    silent(place.made, trace, events)
    assert len(place.web.asked) > MIDWAY


def test_what_is_made_of_a_signed_run_keeps_its_secrets(signed: Callable[..., Place]) -> None:
    """Plans, words of status and info, exports, the report, a catalogue's item; and a resume, signed anew or not."""
    place = signed()
    mosaic = place.made / "o.zarr"
    said = [called(*place.words("run", "--allow-remote", "--json")), called(*place.words("run", "--allow-remote"))]
    said += [called(*place.words("plan", "--allow-remote", *options)) for options in ([], ["--json"])]
    said += [called(command, mosaic, "--json") for command in ("status", "info", "verify")]
    for kind, name in (("cog", "a.tif"), ("stac", "a.json"), ("parquet", "a.parquet")):
        said.append(called("export", mosaic, "--to", kind, "-o", place.made / name))
    said.append(called("preview", mosaic, "-o", place.made / "page.html"))
    assert [code for code, _ in said] == [0] * len(said), said
    silent(place.made, *(words for _, words in said))
    links = json.loads((place.made / "a.json").read_text())["links"]
    assert f"{place.web.address}/scene.tif" in [link["href"] for link in links]


def test_many_signed_rasters_are_called_by_what_is_public(signed: Callable[..., Place]) -> None:
    """In words, in results, and in the names of their mosaics; also those that fail."""
    place = signed()
    words = place.words("run", "--allow-remote", place.url("gone.tif"), "-v", "--bbox", "300000,1999900,300100,2000000")
    words[words.index("-o") + 1] = str(place.made)
    for options in ([], ["--json"]):
        code, said = called(*words, *options)
        assert code == 3
        silent(place.made, said)
    assert (place.made / "scene.zarr").is_dir()


def test_a_run_spec_keeps_the_public_address_and_a_hash(signed: Callable[..., Place]) -> None:
    """The hash is of what the query asks for, so that another query is another raster."""
    place = signed()
    assert called(*place.words("run", "--allow-remote"))[0] == 0
    spec = json.loads((place.made / "o.run" / "run.json").read_text())["raster"]
    assert spec["path"] == f"{place.web.address}/scene.tif"
    assert spec["query"]


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A scheduler and a worker in processes of their own, on loopback, which log into a folder; ended by id."""
    file, common = folder / "scheduler.json", ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    commands = {
        "scheduler": ["--port", "0", "--scheduler-file", str(file)],
        "worker": ["--scheduler-file", str(file), "--no-nanny", "--death-timeout", "30", "--resources", "GPU=1"],
    }
    with ExitStack() as stack:
        for name, options in commands.items():
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            started = subprocess.Popen(
                [sys.executable, "-m", "dask", name, *options, *common], stdout=log, stderr=log, cwd=Path.cwd()
            )
            stack.callback(started.wait)
            stack.callback(started.kill)
        for _ in range(10 * PATIENCE):
            if file.exists():
                break
            time.sleep(0.1)
        yield str(file)


@pytest.mark.slow
def test_a_cluster_elsewhere_gets_the_address_and_does_not_tell_it(
    signed: Callable[..., Place], tmp_path: Path
) -> None:
    """Its workers read with it; when a task fails they log its arguments, among which it is not to be seen."""
    place, logs = signed(MIDWAY), tmp_path / "made" / "logs"
    logs.mkdir()
    with cluster(logs) as file:
        failed, trace = called(*place.words("run", "--allow-remote", "-v", "--scheduler-file", file))
        place.mend()
        done, words = called(*place.words("run", "--allow-remote", "--scheduler-file", file))
    assert (failed, done) == (75, 0), (trace, words)
    assert "infer_block" in (logs / "worker.log").read_text()
    silent(place.made, trace, words)


HUB_TOKEN = "hf_CANARY5"


@pytest.mark.slow
def test_a_hubs_token_is_given_to_the_hub_alone(make_raster: Any, tmp_path: Path) -> None:
    """A hub on loopback is asked with it and refuses; neither the words nor a file hold it."""
    raster = make_raster("made/scene.tif", (3, 64, 64))
    with serving(tmp_path / "made", tmp_path / "asked", user="nobody") as web:
        code, said = program(
            ["run", str(raster), "-m", "org/name", "-o", str(tmp_path / "made" / "o.zarr"), "-v"],
            HF_ENDPOINT=web.address,
            HF_TOKEN=HUB_TOKEN,
            HF_HOME=str(tmp_path / "made" / "hub"),
            HF_HUB_OFFLINE="0",
        )
        assert code == 2
        assert any("org/name" in path for path in web.asked)
    silent(tmp_path / "made", said)
