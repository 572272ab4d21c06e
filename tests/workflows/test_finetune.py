"""The command that trains: what it refuses, in one line, and that what it makes is a model to run with."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import RECIPE, discs, picture, stripes, write, write_pairs, write_polygons

from eomt_core import load_model
from eomt_core.recipes import RECIPES
from pipeline import open_mosaic

QUICK = ("--model", "new:test", "--steps", 2, "--batch-size", 2, "--tile-size", 32, "--precision", "fp32")
ALONE = ("--threads", 1, "--device", "cpu")


@pytest.fixture(autouse=True)
def recipe(monkeypatch):
    """The smallest model; and as many threads afterwards as before."""
    monkeypatch.setitem(RECIPES, "test", RECIPE)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two scenes of two classes in stripes."""
    return write_pairs(tmp_path)


@pytest.fixture
def tune(command, tmp_path: Path):
    """`tune(*options)`: a short training on the scenes into the folder `model`; later options win."""

    def call(*options: object, images: object = tmp_path / "images", labels: object = tmp_path / "labels"):
        return command("finetune", images, labels, "-o", tmp_path / "model", *QUICK, *ALONE, *options)

    return call


def run(command, folder: Path) -> np.ndarray:
    """The classes that a model sees in the first scene."""
    words = ("--device", "cpu", "--chunk", 64, "--tile-size", 32)
    result = command("run", folder / "images" / "a.tif", "-m", folder / "model", "-o", folder / "masks.zarr", *words)
    assert result.exit_code == 0, result.stderr
    return np.asarray(open_mosaic(folder / "masks.zarr").classes)


@pytest.mark.slow
def test_class_indexes_become_a_model(tune, command, scenes: Path) -> None:
    """Words say where it is and how good, a run with it gives its classes, and the log has a row for each step."""
    result = tune("--val", "b", "--classes", "land,road")
    assert result.exit_code == 0, result.stderr
    steps, score, pictures, example = result.stdout.splitlines()
    assert steps.startswith(f"{scenes / 'model'}: 2 steps in 0.")
    assert score.startswith("mIoU 0.")
    assert "validation.png" in pictures
    assert example == f"  eomt-batch run INPUT --model {scenes / 'model'} --out masks.zarr"
    assert (scenes / "model" / "losses.csv").read_text().count("\n") == 3
    assert set(np.unique(run(command, scenes))) <= {0, 1}
    assert open_mosaic(scenes / "masks.zarr").class_names == ("land", "road")


@pytest.mark.slow
def test_polygons_become_a_model(tune, command, scenes: Path) -> None:
    """By the names of their classes, and that of what lies around them."""
    write_polygons(scenes / "roofs.geojson", [("roof", 0, 0, 30, 50), ("road", 40, 20, 60, 100)], field="kind")
    options = ("--class-field", "kind", "--outside", "land")
    result = tune(*options, images=scenes / "images" / "a.tif", labels=scenes / "roofs.geojson")
    assert result.exit_code == 0, result.stderr
    assert "no validation" in result.stdout
    assert set(np.unique(run(command, scenes))) <= {0, 1, 2}
    assert open_mosaic(scenes / "masks.zarr").class_names == ("land", "road", "roof")


def test_instance_ids_become_a_model(tune, tmp_path: Path) -> None:
    """JSON has what it came to; the model answers with its queries."""
    write_pairs(tmp_path, truth=discs)
    result = tune("--task", "instance", "--val", "b", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["measure"], found["steps"], found["output"]) == ("PQ", 2, str(tmp_path / "model"))
    masks = load_model(tmp_path / "model").eval()(torch.rand(1, 3, 32, 32))
    assert masks.class_logits.shape == (1, 16, 2)


def test_a_complete_training_is_told_again(tune, scenes: Path) -> None:
    """By --resume: the same words; without it, what to give."""
    first = tune("--json")
    written = {path: path.stat().st_mtime_ns for path in (scenes / "model").iterdir()}
    again = tune("--json", "--resume")
    assert again.stdout == first.stdout
    assert "is complete" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in (scenes / "model").iterdir()} == written
    assert "give --resume to go on, or --overwrite" in tune().stderr


def test_progress_is_said_as_events(tune, scenes: Path) -> None:
    """A line each, for machines; or nothing."""
    events = [json.loads(line) for line in tune("--log-json").stderr.splitlines()]
    assert [event["step"] for event in events if event["event"] == "train"] == [1, 2]
    assert tune("--overwrite", "-q").stderr == ""


BOX = [("roof", 10, 10, 30, 50), ("land", 40, 20, 60, 100)]
FAR = [("roof", 10000, 10, 10030, 50)]

REFUSALS = {
    "another size": (lambda d: write(d / "labels" / "b.tif", stripes((72, 99))), (), "b.tif: 72 x 99 pixels"),
    "a class outside": (lambda d: None, ("--classes", "land,"), "--classes land,: give names joined by commas"),
    "a value outside": (
        lambda d: write(d / "labels" / "a.tif", stripes(classes=4)),
        ("--classes", "land,road"),
        "a.tif: 1600 pixels have the class 2",
    ),
    "no partner": (lambda d: (d / "labels" / "b.tif").unlink(), (), "b.tif: nothing in"),
    "no images": (lambda d: None, ("--val", "c"), "--val c: is none of the 2 pairs"),
    "steps and minutes": (lambda d: None, ("--minutes", 1), "--steps 2, --minutes 1: give one of them"),
    "tile size": (lambda d: None, ("--tile-size", 33), "--tile-size 33: must be a multiple of 8"),
    "too few bands": (lambda d: None, ("--bands", "1,2,9"), "--bands 9: "),
    "no such model": (lambda d: None, ("--model", "nowhere"), "--model nowhere: "),
    "no such new model": (lambda d: None, ("--model", "new:nothing"), "--model new:nothing: there is no such arch"),
    "zoom": (lambda d: None, ("--zoom", "1"), "--zoom 1: give 2 numbers joined by commas"),
    "light": (lambda d: None, ("--light", "0,0,0,x"), "--light 0,0,0,x: give 4 numbers"),
    "number": (lambda d: None, ("--lr", "-1"), "--lr -1.0: give a number above 0"),
    "nothing to go on with": (lambda d: None, ("--resume",), "model: holds no training to go on with"),
    "colours": (lambda d: write(d / "labels" / "a.tif", picture(stripes())), (), "a.tif: has 3 bands"),
    "heights": (lambda d: write(d / "labels" / "a.tif", stripes().astype(np.float32)), (), "pixels are float32"),
    "another place": (
        lambda d: write(d / "labels" / "a.tif", stripes(), place=(1.0, 0.0, 330500.0, 0.0, -1.0, 2780000.0)),
        (),
        "up to 500 pixels beside it",
    ),
    "no classes": (lambda d: None, ("--classes", "a,a"), "--classes a,a: a name stands there twice"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_trained_on_is_refused(tune, refused, scenes: Path, name: str) -> None:
    """One line that names the file or the option with the value; nothing is written."""
    spoil, options, words = REFUSALS[name]
    spoil(scenes)
    assert words in refused(tune(*options))
    assert not (scenes / "model").exists()


@pytest.mark.parametrize(
    ("boxes", "options", "words"),
    [
        (FAR, (), "roofs.geojson: no polygon touches"),
        ([], (), "roofs.geojson: there is no polygon in it"),
        (BOX, ("--class-field", "kind"), "roofs.geojson: has no field kind, its fields are: class; give --class-field"),
        (BOX, ("--classes", "roof,road"), "class land is not in the list (0 roof, 1 road)"),
        (BOX, ("--outside", "sea", "--classes", "roof,land"), "--outside sea: is none of the classes"),
        (BOX[:1], (), "roofs.geojson: roof is the only class"),
    ],
)
def test_polygons_that_will_not_do_are_refused(tune, refused, scenes: Path, boxes, options, words: str) -> None:
    """Likewise."""
    labels = write_polygons(scenes / "roofs.geojson", boxes)
    assert words in refused(tune(*options, images=scenes / "images" / "a.tif", labels=labels))
    assert not (scenes / "model").exists()


def test_too_few_bands_for_a_model_are_refused(tune, refused, scenes: Path) -> None:
    """The message has what to give."""
    assert tune("-q").exit_code == 0
    (scenes / "model").rename(scenes / "old")
    for stem in "ab":
        write(scenes / "images" / f"{stem}.tif", picture(stripes(), 1))
    line = refused(tune("--model", scenes / "old"))
    assert "a.tif: has 1 band, the model takes 3" in line
    assert "--bands 1,1,1" in line


def test_other_options_do_not_go_on(tune, refused, scenes: Path) -> None:
    """The old and the new value are named."""
    assert tune("-q").exit_code == 0
    assert "--seed was 0, is 3; --steps was 2, is 9" in refused(tune("--resume", "--seed", 3, "--steps", 9))


def test_a_model_is_asked_for(command, refused, scenes: Path) -> None:
    """None is taken for granted: what a training begins with decides what it can learn."""
    words = refused(command("finetune", scenes / "images", scenes / "labels", "-o", scenes / "model"))
    assert "--model is missing: give a model to train further, or new:hybrid-tiny" in words


def test_a_stop_says_how_to_go_on() -> None:
    """Other than for a run, it is another command."""
    from workflows.cli.main import explain

    assert explain(KeyboardInterrupt(), "finetune").text == "stopped by SIGINT; with --resume it goes on"


def test_progress_on_a_terminal_begins_where_the_training_goes_on(monkeypatch) -> None:
    """What an earlier call did says nothing about how fast this one is."""
    import tqdm

    from pipeline.finetune import Pulse
    from workflows.cli import finetune
    from workflows.cli.progress import Console

    bars, real = [], tqdm.tqdm
    monkeypatch.setattr(finetune, "on_terminal", lambda: True)
    monkeypatch.setattr(tqdm, "tqdm", lambda *args, **more: bars.append(real(*args, **more)) or bars[-1])
    with finetune._shown(Console()) as show:
        for step in (51, 52):
            show(Pulse(step, step / 100, 1.0, None, 9.0))
    assert (bars[0].initial, bars[0].n) == (0.51, pytest.approx(0.52))
